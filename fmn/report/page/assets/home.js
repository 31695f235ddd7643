// The first view: leaderboard, charts, models and runs.

const MOST_MAPS = 12; // of Fishers; each model's own view has its own

function home(chosen, changed) {
  return [summary(), board(chosen, changed), compare(), models(), runs()];
}

function summary() {
  const counts = [
    plural(DATA.merges.length, "merge"),
    plural(DATA.models.length, "model"),
    plural(METHODS.length, "method"),
    plural(DATA.fishers.length, "mask Fisher"),
  ];
  const store = el("code", {}, name(DATA.store));
  return el(
    "p",
    { class: "summary" },
    counts.join(" · "),
    " · ",
    store,
    ", read ",
    when(DATA.at),
    DATA.parent && [" · parent ", name(DATA.parent)],
  );
}

function board(chosen, changed) {
  const none = el(
    "p",
    { class: "empty" },
    "No merges yet. ",
    el("code", {}, "fmn run"),
    " makes those of a zoo.",
  );
  const about = el(
    "p",
    { class: "about" },
    "Mean and worst are of merged / individual score, in %: 100 is as good as the model itself. ",
    DATA.models.length <= MOST_COLUMNS &&
      "Under each model: the merge's score on its task × 100, small, % of the model's own, and " +
        "the score's interval. ",
    "Intervals hold 95 % of the resamples of the examples. A difference from the best merge of " +
      "the same models is inside its interval where that holds 0. ",
    CHARTS.elsewhere && `${capital(CHARTS.elsewhere)}: # ranks by those.`,
  );
  return section(
    "Leaderboard",
    "leaderboard",
    DATA.merges.length ? [about, leaderboard(chosen, changed)] : none,
  );
}

function compare() {
  const [{ charts }] = boardsOf("comparison");
  const none = el("p", { class: "empty" }, "No merge was measured yet.");
  return section("Comparison", "compare", charts.length ? boards("comparison") : none);
}

function models() {
  if (!DATA.models.length)
    return section("Models", "models", el("p", { class: "empty" }, "No models yet."));
  const headings = [
    "Model",
    "Task",
    "Scores",
    { text: "Examples", class: "number" },
    { text: "Merges", class: "number" },
    CHARTS.elsewhere ? "Best merge, by other rows" : "Best merge",
    "Where",
  ];
  const rows = DATA.models.map((model, index) => {
    const within = DATA.merges
      .filter((merge) => merge.members.some((member) => member.model === index))
      .sort(byChoice);
    const best =
      within[0]?.mean == null
        ? "–"
        : mergeLink(within[0], titleNodes(within[0]), ` (${percent(within[0].mean, 1)} %)`);
    return [
      modelLink(index),
      name(model.task),
      metricList(model.metrics, model.intervals, model.chance),
      number(model.examples),
      number(within.length),
      best,
      name(model.model),
    ];
  });
  return section(
    "Models",
    "models",
    table("Models", headings, rows, { class: "models" }),
    fisherMaps(),
  );
}

function metricList(metrics, intervals, chance) {
  const values = Object.entries(metrics).map(([metric, value]) => {
    const best = chance?.[metric] == null ? "" : `; chance ${percent(chance[metric])}`;
    const sure = el("small", {}, ends(intervals[metric]), best);
    return el("span", { class: "metric" }, name(metric), " ", percent(value), " ", sure);
  });
  return values.length ? joined(values, " ") : "–";
}

/** Of each Fisher the chart of its first kind of node; the model's own page has all. */
function fisherMaps() {
  const first = DATA.fishers.map((fisher) => [fisher, ...chartsOf(fisher)[0]]);
  const charts = first.filter(([, , chart]) => chart);
  if (!charts.length) return el("p", { class: "empty" }, "No mask Fishers in the store.");
  const titles = new Set(charts.map(([, kind]) => CHARTS.kinds[kind].title));
  const nodes = [...titles].join(", ");
  const about = `How much each model's loss depends on its ${nodes}, on a logarithmic scale. `;
  const rest =
    charts.length > MOST_MAPS &&
    `Of ${charts.length}, the first ${MOST_MAPS}; each model's own page has its own.`;
  const figures = charts
    .slice(0, MOST_MAPS)
    .map(([fisher, , chart]) => headed(chart, modelLink(fisher.model)));
  return [
    el("h3", {}, "Mask Fishers"),
    el("p", { class: "about" }, about, rest),
    el("div", { class: "grid" }, figures),
  ];
}

function runs() {
  if (!DATA.runs.length)
    return section(
      "Runs",
      "runs",
      el("p", { class: "empty" }, "No run of a zoo has written its log yet."),
    );
  const last = [...DATA.runs]
    .sort((one, other) => other.at.localeCompare(one.at))
    .slice(0, CHARTS.mostRuns);
  const total = (counts) => number(Object.values(counts).reduce((sum, count) => sum + count, 0));
  const count = (text) => ({ text, class: "number" });
  const rows = last.map((run) => [
    when(run.at),
    duration(run.wall),
    total(run.computed),
    total(run.cached),
    total(run.skipped),
    number(run.failed.length),
  ]);
  const headings = [
    "Run",
    count("Took"),
    count("Computed"),
    count("From the store"),
    count("Skipped"),
    count("Failed"),
  ];
  return section(
    "Runs",
    "runs",
    boards("runs"),
    table("The last runs", headings, rows),
    last.flatMap((run) => run.failed.map((failure) => failed(run, failure))),
  );
}

function failed(run, failure) {
  return el(
    "p",
    { class: "failure" },
    when(run.at),
    " ",
    el("strong", {}, name(failure.step ?? "")),
    ": ",
    name(failure.error ?? ""),
  );
}
