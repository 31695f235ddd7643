// The view of one merge.

function mergeView(merge) {
  return [
    el("p", { class: "crumbs" }, el("a", { href: `#/${lastQuery}` }, "Leaderboard"), " / merge"),
    el("h2", { id: "title", tabindex: -1, class: "title" }, titleNodes(merge)),
    headline(merge),
    scoresSection(merge),
    winnersSection(merge),
    section("Lineage", "lineage", lineage(merge), made(merge)),
    recipe(merge),
    take(merge),
  ];
}

function headline(merge) {
  return facts([
    ["Method", methodName(methodOf(merge))],
    ["Mean", merge.mean == null ? "not measured" : `${percent(merge.mean)} %`],
    ["Worst", merge.worst == null ? null : `${percent(merge.worst)} %`],
    ["ID", el("code", { title: merge.key }, idOf(merge))],
    ["Tags", merge.tags.length || merge.kept ? el("span", {}, tagList(merge)) : null],
    ["Note", merge.note && name(merge.note)],
  ]);
}

function scoresSection(merge) {
  const count = (text) => ({ text, class: "number" });
  const headings = [
    "Model",
    "Task",
    "Metric",
    count("Merged"),
    count("Alone"),
    count("Merged / alone, %"),
    count("Examples"),
    "All metrics",
  ];
  const rows = merge.members.map((member, index) => [
    [swatch(index), " ", modelLink(member.model, member.name)],
    name(member.task),
    name(member.metric || "–"),
    percent(member.score),
    percent(member.individual),
    percent(member.normalized),
    member.examples ? number(member.examples) : "–",
    metricList(member.metrics),
  ]);
  const measured = merge.members.some((member) => member.score != null);
  return section(
    "Scores",
    "scores",
    measured ? scoresFigure(merge) : el("p", { class: "empty" }, "This merge was not measured."),
    table("Scores of the merge, × 100", headings, rows),
  );
}

function scoresFigure(merge) {
  const rows = () =>
    merge.members.map((member, index) => ({
      model: CHARTS.modelLabels[member.model],
      score: member.score == null ? null : 100 * member.score,
      individual: member.individual == null ? null : 100 * member.individual,
      normalized: member.normalized == null ? null : 100 * member.normalized,
      fill: colourOf(index),
    }));
  return el(
    "figure",
    { class: "half" },
    el("figcaption", {}, el("p", {}, "Bars are the merge; the line across is the model alone.")),
    chartHost(high(CHARTS.scores, merge.members.length), rows),
  );
}

function made(merge) {
  const times = Object.entries(merge.seconds).map(
    ([what, seconds]) => `${what} ${duration(seconds)}`,
  );
  return facts([
    ["By", name(merge.by)],
    ["At", when(merge.at)],
    ["Took", times.join(", ")],
    ["On", name(merge.device)],
    ["With", listed(merge.versions)],
  ]);
}

function recipe(merge) {
  const headings = [
    "Model",
    { text: "λ", class: "number" },
    "Where",
    "Weights",
    "Statistic",
    "Its settings",
  ];
  const rows = merge.members.map((member, index) => {
    const model = DATA.models[member.model];
    const fisher = FISHERS.get(member.fisher);
    const where = model.revision ? `${model.model} at ${model.revision}` : model.model;
    const key = member.fisher
      ? el("code", { title: member.fisher }, member.fisher.slice(0, 14))
      : "–";
    const settings = fisher ? el("span", { class: "prose" }, listed(fisher.settings)) : "–";
    return [
      [swatch(index), " ", name(member.name)],
      String(member.weight),
      name(where),
      el("code", { title: model.weights }, model.weights.slice(0, 12)),
      key,
      settings,
    ];
  });
  const parameters = Object.entries(merge.parameters).map(([key, value]) => [
    name(key),
    name(value),
  ]);
  return section(
    "Recipe",
    "recipe",
    facts([["method", name(merge.method)], ...parameters]),
    table("Models of the recipe", headings, rows),
  );
}

/** Names with their values, separated by commas. */
function listed(entries) {
  return joined(
    Object.entries(entries).map(([key, value]) => name(`${key} ${valueText(value)}`)),
    ", ",
  );
}

const valueText = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function take(merge) {
  return section(
    "Take it",
    "take",
    copyable(`fmn catalog show ${idOf(merge)}`, "the command that shows it"),
    copyable(`fmn catalog get ${idOf(merge)} DIR`, "the command that writes it to a directory"),
  );
}
