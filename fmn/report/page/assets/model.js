// The view of one model.

const MOST_MERGES = 50; // in the table; the leaderboard has all

function modelView(model) {
  const index = DATA.models.indexOf(model);
  return [
    el(
      "p",
      { class: "crumbs" },
      el("a", { href: `#/${lastQuery}` }, "Leaderboard"),
      " / ",
      el("a", { href: "#/models" }, "models"),
    ),
    el("h2", { id: "title", tabindex: -1, class: "title" }, name(CHARTS.modelLabels[index])),
    facts([
      ["Task", name(model.task)],
      [
        "Scores",
        Object.keys(model.metrics).length
          ? el("span", {}, metricList(model.metrics, model.intervals, model.chance))
          : "not measured",
      ],
      ["Alone", model.at_chance ? "no better than chance" : null],
      ["Examples", model.examples ? number(model.examples) : null],
      ["Where", name(model.model)],
      ["Revision", model.revision && name(model.revision)],
      ["Weights", el("code", { class: "long" }, model.weights)],
      ["Identity", el("code", { class: "long" }, model.key)],
    ]),
    fisherSection(index),
    mergesSection(index),
  ];
}

function fisherSection(index) {
  const maps = DATA.fishers.filter((fisher) => fisher.model === index);
  if (!maps.length)
    return section(
      "Mask Fisher",
      "fisher",
      el("p", { class: "empty" }, "The store has no mask Fisher of this model."),
    );
  return section(
    "Mask Fisher",
    "fisher",
    maps.map((fisher) => [
      facts([
        ...Object.entries(fisher.settings).map(([key, value]) => [
          name(key),
          name(valueText(value)),
        ]),
        ["key", el("code", {}, fisher.key.slice(0, 12))],
        ["by", name(fisher.by)],
        ["at", when(fisher.at)],
        ["took", duration(fisher.seconds)],
      ]),
      el(
        "div",
        { class: "two" },
        chartsOf(fisher).map(([kind, chart]) =>
          chart
            ? figure(chart)
            : el("p", { class: "empty" }, `All of its ${CHARTS.kinds[kind].title} are 0.`),
        ),
      ),
    ]),
  );
}

function mergesSection(index) {
  const within = DATA.merges
    .filter((merge) => merge.members.some((member) => member.model === index))
    .sort(byChoice);
  if (!within.length)
    return section("Merges", "merges", el("p", { class: "empty" }, "It is in no merge."));
  const headings = [
    { text: "Merge", class: "title" },
    "Method",
    { text: "Mean %", class: "number" },
    { text: "Its score", class: "number" },
    { text: "of its own, %", class: "number" },
    { text: "Merged − alone", class: "number" },
  ];
  const rows = within.slice(0, MOST_MERGES).map((merge) => {
    const member = merge.members.find((each) => each.model === index);
    return [
      mergeLink(merge, titleNodes(merge)),
      methodName(methodOf(merge)),
      sure(merge.mean, merge.interval),
      sure(member.score, intervalOf(member)),
      percent(member.normalized),
      apartCell(member.apart),
    ];
  });
  const all = el(
    "a",
    { href: `#/?with=${modelKey(index)}` },
    `All ${plural(within.length, "merge")} on the leaderboard`,
  );
  return section(
    "Merges",
    "merges",
    table("Merges with this model", headings, rows),
    el("p", {}, all),
  );
}
