// What the leaderboard is narrowed down by.

function filters(state, columns, choose) {
  const sizes = [...new Set(DATA.merges.map((merge) => merge.members.length))].sort(
    (one, other) => one - other,
  );
  const tags = [...new Set(DATA.merges.flatMap((merge) => merge.tags))].sort();
  const form = el(
    "form",
    {
      class: "filters",
      role: "search",
      "aria-label": "Narrow the leaderboard down",
      onsubmit: (event) => event.preventDefault(),
    },
    el(
      "div",
      { class: "fields" },
      searchField(state, choose),
      sortField(state, columns, choose),
      select(
        "Size",
        "size",
        [["", "any"], ...sizes.map((size) => [String(size), `${size} models`])],
        state,
        choose,
      ),
      tags.length > 0 &&
        select("Tag", "tag", [["", "any"], ...tags.map((tag) => [tag, tag])], state, choose),
      el("button", { type: "reset", class: "quiet" }, "Clear"),
    ),
    el(
      "div",
      { class: "fields sets" },
      METHODS.length > 1 &&
        choices(
          "Method",
          "method",
          METHODS.map((label) => [label, methodName(label)]),
          state,
          choose,
        ),
      choices(
        "Contains",
        "with",
        DATA.models.map((_, index) => [modelKey(index), name(CHARTS.modelLabels[index])]),
        state,
        choose,
      ),
    ),
  );
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    form.querySelectorAll("input[type=checkbox]").forEach((input) => (input.checked = false));
    form
      .querySelectorAll("[name=q], [name=size], [name=tag]")
      .forEach((input) => (input.value = ""));
    choose({ ...NOTHING, sort: state.sort });
  });
  return form;
}

function searchField(state, choose) {
  const input = el("input", {
    type: "search",
    name: "q",
    value: state.q,
    placeholder: "name, task, ID, person",
    autocomplete: "off",
  });
  input.addEventListener("input", () => choose({ q: input.value.trim() }));
  return el("label", { class: "search" }, el("span", {}, "Search"), input);
}

/** The order, for narrow pages, which show no headings to press. */
function sortField(state, columns, choose) {
  const options = columns
    .filter((column) => column.value)
    .flatMap((column) => [
      [`-${column.id}`, `${column.label}, falling`],
      [column.id, `${column.label}, rising`],
    ]);
  const field = select("Sort", "sort", options, state, choose);
  field.classList.add("narrow");
  return field;
}

function select(label, key, options, state, choose) {
  const input = el(
    "select",
    { name: key },
    options.map(([value, text]) => el("option", { value, selected: state[key] === value }, text)),
  );
  input.addEventListener("change", () => choose({ [key]: input.value }));
  return el("label", {}, el("span", {}, label), input);
}

function choices(legend, key, options, state, choose) {
  const boxes = options.map(([value, label]) => {
    const input = el("input", {
      type: "checkbox",
      name: key,
      value,
      checked: state[key].includes(value),
    });
    return el("label", {}, input, label);
  });
  const set = el("fieldset", {}, el("legend", {}, legend), el("div", { class: "choices" }, boxes));
  set.addEventListener("change", () =>
    choose({ [key]: [...set.querySelectorAll("input:checked")].map((input) => input.value) }),
  );
  return set;
}
