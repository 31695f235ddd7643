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
    ["Interval", merge.mean == null ? null : ends(merge.interval)],
    ["From the best of these models", standing(merge)],
    ["Chosen", merge.choice == null ? null : `${capital(CHARTS.elsewhere)}.`],
    [
      "No better than chance alone",
      joined(
        merge.at_chance.map((each) => name(each)),
        ", ",
      ),
    ],
    ["Mean without", merge.mean_above_chance && `${percent(merge.mean_above_chance)} %`],
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
    count("Chance"),
    count("Alone"),
    count("Merged − alone"),
    count("Merged / alone, %"),
    count("Examples"),
    "All metrics",
  ];
  const rows = merge.members.map((member, index) => [
    [swatch(index), " ", modelLink(member.model, member.name)],
    name(member.task),
    name(member.metric || "–"),
    sure(member.score, intervalOf(member)),
    percent(member.chance),
    sure(member.individual, member.own_interval),
    apartCell(member.apart),
    percent(member.normalized),
    member.examples ? number(member.examples) : "–",
    metricList(member.metrics, member.intervals),
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
  const times100 = (value) => (value == null ? null : 100 * value);
  const rows = merge.members.map((member, index) => ({
    model: CHARTS.modelLabels[member.model],
    score: times100(member.score),
    individual: times100(member.individual),
    normalized: times100(member.normalized),
    low: times100(intervalOf(member)?.[0]),
    high: times100(intervalOf(member)?.[1]),
    chance: times100(member.chance),
    interval: ends(intervalOf(member)),
    apart: apartText(member.apart) ?? "no interval",
    fill: colourOf(index),
  }));
  // a layer of which no row has the value would have no extent
  const has = ({ encoding }) => rows.some((row) => row[encoding.x.field] != null);
  const spec = { ...CHARTS.scores, layer: CHARTS.scores.layer.filter(has) };
  return el(
    "figure",
    { class: "half" },
    el(
      "figcaption",
      {},
      el(
        "p",
        {},
        "Bars are the merge, with the interval of its score; the line across is the model alone, " +
          "the dot is chance.",
      ),
    ),
    chartHost(high(spec, merge.members.length), () => rows),
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
