"""Runs of two deployments on one store do not overlap."""

import threading
from contextvars import copy_context

from fmn.flows.store_lock import store_lock
from tests.flows.conftest import until


def test_a_deployments_run_waits_while_another_works_for_the_same_store_and_for_no_other(
    server, monkeypatch
):
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a deployment")
    entered = threading.Event()

    def other():
        with store_lock("one store"):
            entered.set()

    # with the context, in which Prefect finds the server: without it the thread starts one of its
    # own
    thread = threading.Thread(target=copy_context().run, args=(other,), daemon=True)
    with store_lock("one store"):
        with store_lock("another store"):
            pass
        thread.start()
        assert not entered.wait(3)
    until(entered.is_set, "the other's turn")
    thread.join()


def test_a_run_by_hand_waits_for_nobody(server):
    with store_lock("one store"), store_lock("one store"):
        pass
