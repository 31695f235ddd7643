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
  return el("p", { class: "summary" }, counts.join(" · "), " · ", store, ", read ", when(DATA.at), DATA.parent && [" · parent ", name(DATA.parent)]);
}

function board(chosen, changed) {
  const none = el("p", { class: "empty" }, "No merges yet. ", el("code", {}, "fmn run"), " makes those of a zoo.");
  const about = el("p", { class: "about" }, "Mean and worst are of merged / individual score, in %: 100 is as good as the model itself. ",
    DATA.models.length <= MOST_COLUMNS && "Under each model: the merge's score on its task × 100, and small, % of the model's own.");
  return section("Leaderboard", "leaderboard", DATA.merges.length ? [about, leaderboard(chosen, changed)] : none);
}

function compare() {
  const { sizes, methods, pairs } = CHARTS;
  if (!sizes) return section("Comparison", "compare", el("p", { class: "empty" }, "No merge was measured yet."));
  const several = pairs.length > 1 ? "The methods share one scale of colours." : null;
  return section(
    "Comparison",
    "compare",
    el("div", { class: "two" },
      figure(sizes, { note: "Points are means over combinations; thick lines span the middle half of them, thin lines all." }),
      methods
        ? figure(methods, { note: "A point is one combination of models; right of 0 the first method is better. The bar spans the middle half, the tick is the median." })
        : el("figure", {}, el("figcaption", {}, el("h3", {}, "Method against method")), el("p", { class: "empty" }, "No two methods merged the same models."))),
    el("h3", {}, "Pairs"),
    el("p", { class: "about" }, "Mean normalised score of every two models, in %. ", several),
    pairs.length
      ? el("div", { class: "grid" }, pairs.map((chart) => pairFigure(chart)))
      : el("p", { class: "empty" }, "No pair was measured."),
  );
}

function pairFigure(chart) {
  const made = figure(chart, { level: "h4" });
  made.querySelector("h4").replaceChildren(methodName(chart.title));
  return made;
}

function models() {
  if (!DATA.models.length) return section("Models", "models", el("p", { class: "empty" }, "No models yet."));
  const headings = ["Model", "Task", "Scores", { text: "Examples", class: "number" }, { text: "Merges", class: "number" }, "Best merge", "Where"];
  const rows = DATA.models.map((model, index) => {
    const within = DATA.merges.filter((merge) => merge.parts.some((part) => part.model === index)).sort(byMean);
    const best = within[0]?.mean == null ? "–" : mergeLink(within[0], titleNodes(within[0]), ` (${percent(within[0].mean, 1)} %)`);
    return [modelLink(index), name(model.task), metricList(model.metrics), number(model.examples), number(within.length), best, name(model.model)];
  });
  return section("Models", "models", table("Models", headings, rows, { class: "models" }), fisherMaps());
}

function metricList(metrics) {
  const said = Object.entries(metrics).map(([metric, value]) => el("span", { class: "metric" }, name(metric), " ", percent(value)));
  return said.length ? joined(said, " ") : "–";
}

function fisherMaps() {
  const maps = DATA.fishers.filter((fisher) => CHARTS.heads[fisher.key]);
  if (!maps.length) return el("p", { class: "empty" }, "No mask Fishers in the store.");
  const rest = maps.length > MOST_MAPS && `Of ${maps.length}, the first ${MOST_MAPS}; each model's own page has its own.`;
  return [
    el("h3", {}, "Mask Fishers"),
    el("p", { class: "about" }, "How much each model's loss depends on each attention head, on a logarithmic scale. ", rest),
    el("div", { class: "grid" }, maps.slice(0, MOST_MAPS).map((fisher) => {
      const made = figure(CHARTS.heads[fisher.key], { level: "h4" });
      made.querySelector("h4").replaceChildren(modelLink(fisher.model));
      return made;
    })),
  ];
}

function runs() {
  if (!DATA.runs.length) return section("Runs", "runs", el("p", { class: "empty" }, "No run of a zoo has written its log yet."));
  const last = [...DATA.runs].sort((one, other) => other.at.localeCompare(one.at)).slice(0, CHARTS.mostRuns);
  const total = (counts) => number(Object.values(counts).reduce((sum, count) => sum + count, 0));
  const count = (text) => ({ text, class: "number" });
  const rows = last.map((run) => [when(run.at), duration(run.wall), total(run.computed), total(run.cached), total(run.skipped), number(run.failed.length)]);
  const headings = ["Run", count("Took"), count("Computed"), count("From the store"), count("Skipped"), count("Failed")];
  return section("Runs", "runs",
    el("div", { class: "two" }, CHARTS.seconds && figure(CHARTS.seconds), CHARTS.counts && figure(CHARTS.counts)),
    table("The last runs", headings, rows),
    last.flatMap((run) => run.failed.map((failure) => failed(run, failure))));
}

function failed(run, failure) {
  return el("p", { class: "failure" }, when(run.at), " ", el("strong", {}, name(failure.step ?? "")), ": ", name(failure.error ?? ""));
}
