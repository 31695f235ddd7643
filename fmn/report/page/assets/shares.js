// Who wins which mask node of a merge: s_i = λ_i F_i / Σ_j λ_j F_j, as the merge has it for the
// rows that a node governs; F is the Fisher, scaled and tempered.

/** A merge's shares for each kind of node, or a sentence that says why there are none. */
function sharesOf(merge) {
  if (!merge.by_nodes) {
    return "This method weights no mask nodes, so none of the models wins any.";
  }
  const fishers = merge.members.map((member) => FISHERS.get(member.fisher));
  const missing = merge.members.filter((_, index) => !fishers[index]).map((member) => member.name);
  if (missing.length) {
    const names = missing.join(", ");
    return `The store does not have the mask Fisher of ${names}, so the shares cannot be shown.`;
  }
  const [first] = fishers;
  if (fishers.some((fisher) => shapeOf(fisher) !== shapeOf(first))) {
    return "The mask Fishers have different shapes, so the shares cannot be shown.";
  }
  const weights = merge.members.map((member) => member.weight);
  const scales = fishers.map((fisher) => fisher.scales[merge.parameters.normalize ?? "none"]);
  const temper = merge.parameters.temper ?? 1;
  return Object.entries(first.nodes).map(([kind, { layers, nodes }]) => {
    const values = fishers.map((fisher) => floats(fisher.nodes[kind].values));
    return {
      kind,
      ...CHARTS.kinds[kind],
      layers,
      nodes,
      shares: nodeShares(values, weights, scales, temper),
    };
  });
}

/** What Fishers of one parent's fine-tunes have in common: the kinds and numbers of nodes. */
function shapeOf(fisher) {
  const sizes = Object.entries(fisher.nodes).map(([kind, { layers, nodes }]) => [
    kind,
    layers,
    nodes,
  ]);
  return JSON.stringify(sizes);
}

/** A list per node of each model's share. */
function nodeShares(values, weights, scales, temper) {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return Array.from({ length: values[0].length }, (_, node) => {
    const precisions = values.map(
      (fisher, index) => weights[index] * (fisher[node] / scales[index]) ** temper,
    );
    const total = precisions.reduce((one, other) => one + other, 0);
    return total > 0
      ? precisions.map((precision) => precision / total)
      : weights.map((weight) => weight / sum);
  });
}

/** The models with the greatest share of a node; several if they tie. */
function winnersOf(shares) {
  const greatest = Math.max(...shares);
  return shares.flatMap((share, index) => (share === greatest ? [index] : []));
}

/** Of each layer, each model's mean share, and the part of the nodes that it wins. */
function perLayer({ layers, nodes, shares }) {
  const models = shares[0].length;
  return layers.map((layer, row) => {
    const mean = new Array(models).fill(0);
    const won = new Array(models).fill(0);
    for (const node of shares.slice(row * nodes, (row + 1) * nodes)) {
      node.forEach((share, index) => (mean[index] += share / nodes));
      const winners = winnersOf(node);
      winners.forEach((index) => (won[index] += 1 / winners.length / nodes));
    }
    return { layer, mean, won };
  });
}

function winnerRows(merge, { layers, nodes, shares }) {
  const { paper } = tokens();
  const least = 1 / merge.members.length;
  return shares.map((each, node) => {
    const winners = winnersOf(each);
    const share = each[winners[0]];
    const strength = CHARTS.palest + ((1 - CHARTS.palest) * (share - least)) / (1 - least || 1);
    const tied = winners.length > 1;
    const colour = mixed(tied ? CHARTS.other : colourOf(winners[0]), paper, strength);
    const all = each.map((one, index) => `${merge.members[index].name} ${percent(one, 1)}`);
    return {
      layer: layers[Math.floor(node / nodes)],
      node: node % nodes,
      fill: colour,
      ink: inkOn(colour),
      text: `${tied ? "=" : letter(winners[0])} ${percent(share, 0)}`,
      model: winners.map((index) => merge.members[index].name).join(", "),
      all: all.join(", "),
    };
  });
}

function layerRows(merge, rows, which) {
  return rows.flatMap(({ layer, ...parts }) =>
    parts[which].map((share, index) => ({
      layer,
      model: merge.members[index].name,
      rank: index,
      share: 100 * share,
      fill: colourOf(index),
      ink: inkOn(colourOf(index)),
      text: share >= CHARTS.narrowest ? letter(index) : "",
    })),
  );
}

function winnersSection(merge) {
  const kinds = sharesOf(merge);
  const title = "Who wins which mask node";
  if (typeof kinds === "string") {
    return section(title, "winners", el("p", { class: "empty" }, kinds));
  }
  const about =
    "A model's share of a node is λF / ΣλF: the part that it has in the merged rows which the " +
    "node governs.";
  const key = merge.members.map((member, index) =>
    el("span", {}, swatch(index), " ", name(member.name)),
  );
  const figures = kinds.map((each) =>
    each.nodes <= CHARTS.mostCells ? winnersFigure(merge, each) : sharesFigures(merge, each),
  );
  return section(
    title,
    "winners",
    el("p", { class: "about" }, about),
    el("p", { class: "key" }, key, merge.members.length > 1 && el("span", {}, "= a tie")),
    el("div", { class: "two" }, figures),
  );
}

function shareFigure(title, spec, layers, rows, details = null) {
  const caption = el("figcaption", {}, el("h3", {}, title));
  return el("figure", {}, caption, chartHost(high(spec, layers.length), rows), details);
}

/** Of a kind with few nodes in a layer: who wins each. */
function winnersFigure(merge, each) {
  const details = disclosed("Numbers", () => nodeTable(merge, each));
  const title = `${each.heading}: the winner and its share, %`;
  return shareFigure(title, each.winners, each.layers, () => winnerRows(merge, each), details);
}

/** Of a kind with many nodes in a layer: the mean shares, and how many each model wins. */
function sharesFigures(merge, each) {
  const layers = perLayer(each);
  const bars = (which, title) =>
    shareFigure(`${each.heading}: ${title}, %`, each[which], each.layers, () =>
      layerRows(merge, layers, which),
    );
  return el(
    "div",
    {},
    el("div", { class: "pair" }, bars("mean", "mean share"), bars("won", "won")),
    disclosed("Numbers", () => layerTable(merge, each, layers)),
  );
}

function nodeTable(merge, { kind, title, unit, layers, nodes, shares }) {
  const names = merge.members.map((member) => ({ text: name(member.name), class: "number" }));
  const rows = shares.map((each, node) => [
    String(layers[Math.floor(node / nodes)]),
    String(node % nodes),
    ...each.map((share) => percent(share, 3)),
  ]);
  const headings = ["Layer", capital(unit), ...names];
  return table(`Shares of the ${title}, %`, headings, rows, { class: "shares", "data-kind": kind });
}

function layerTable(merge, { kind, title }, layers) {
  const of = (what) =>
    merge.members.map((member) => ({ text: [name(member.name), ` ${what}`], class: "number" }));
  const rows = layers.map(({ layer, mean, won }) => [
    String(layer),
    ...[...mean, ...won].map((share) => percent(share, 3)),
  ]);
  const headings = ["Layer", ...of("mean"), ...of("won")];
  return table(`Shares of the ${title}, %`, headings, rows, { class: "shares", "data-kind": kind });
}
