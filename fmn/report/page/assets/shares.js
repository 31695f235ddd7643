// Who wins which head and neuron of a merge: s_i = λ_i F_i / Σ_j λ_j F_j, as the merge has it for the rows that a node governs.

/** The shares of a merge's models, or a sentence that says why there are none. */
function sharesOf(merge) {
  if (merge.method !== "mask-fisher") return "This method weights no heads and neurons, so none of the models wins any.";
  const fishers = merge.parts.map((part) => FISHERS.get(part.fisher));
  const missing = merge.parts.filter((_, index) => !fishers[index]).map((part) => part.name);
  if (missing.length) return `The store does not have the mask Fisher of ${missing.join(", ")}, so the shares cannot be shown.`;
  const [first] = fishers;
  if (fishers.some((fisher) => ["layers", "heads", "neurons"].some((size) => fisher[size] !== first[size]))) {
    return "The mask Fishers have different shapes, so the shares cannot be shown.";
  }
  const weights = merge.parts.map((part) => part.weight);
  const scales = fishers.map((fisher) => fisher.scales[merge.parameters.normalize ?? "none"]);
  const of = (part, nodes) => ({ nodes, shares: nodeShares(fishers.map((fisher) => floats(fisher[part])), weights, scales) });
  return { layers: first.layers, attention: of("attention", first.heads), neurons: of("feed_forward", first.neurons) };
}

/** A list per node of each model's share. */
function nodeShares(values, weights, scales) {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return Array.from({ length: values[0].length }, (_, node) => {
    const precisions = values.map((fisher, index) => (weights[index] * fisher[node]) / scales[index]);
    const total = precisions.reduce((one, other) => one + other, 0);
    return total > 0 ? precisions.map((precision) => precision / total) : weights.map((weight) => weight / sum);
  });
}

/** The models with the greatest share of a node; several if they tie. */
function winnersOf(shares) {
  const greatest = Math.max(...shares);
  return shares.flatMap((share, index) => (share === greatest ? [index] : []));
}

/** Of each layer, each model's mean share of the nodes, and the part of them that it wins; who tie split a node. */
function perLayer({ nodes, shares }, layers) {
  const models = shares[0].length;
  return Array.from({ length: layers }, (_, layer) => {
    const mean = new Array(models).fill(0);
    const won = new Array(models).fill(0);
    for (const node of shares.slice(layer * nodes, (layer + 1) * nodes)) {
      node.forEach((share, index) => (mean[index] += share / nodes));
      const winners = winnersOf(node);
      winners.forEach((index) => (won[index] += 1 / winners.length / nodes));
    }
    return { mean, won };
  });
}

function winnerRows(merge, { attention }) {
  const { paper } = tokens();
  const least = 1 / merge.parts.length;
  return attention.shares.map((shares, node) => {
    const winners = winnersOf(shares);
    const share = shares[winners[0]];
    const strength = 0.35 + (0.65 * (share - least)) / (1 - least || 1);
    const colour = mixed(winners.length > 1 ? CHARTS.other : colourOf(winners[0]), paper, strength);
    return {
      layer: Math.floor(node / attention.nodes),
      head: node % attention.nodes,
      fill: colour,
      ink: inkOn(colour),
      text: `${winners.length > 1 ? "=" : letter(winners[0])} ${percent(share, 0)}`,
      model: winners.map((index) => merge.parts[index].name).join(", "),
      all: shares.map((each, index) => `${merge.parts[index].name} ${percent(each, 1)}`).join(", "),
    };
  });
}

function layerRows(merge, layers, which) {
  return layers.flatMap((layer, number) =>
    layer[which].map((share, index) => ({
      layer: number,
      model: merge.parts[index].name,
      rank: index,
      share: 100 * share,
      fill: colourOf(index),
      ink: inkOn(colourOf(index)),
      text: share >= 0.09 ? letter(index) : "",
    })),
  );
}

function winnersSection(merge) {
  const shares = sharesOf(merge);
  if (typeof shares === "string") return section("Who wins which head and neuron", "winners", el("p", { class: "empty" }, shares));
  const layers = perLayer(shares.neurons, shares.layers);
  const { templates } = CHARTS;
  const chart = (title, spec, rows, details = null) =>
    el("figure", {}, el("figcaption", {}, el("h3", {}, title)), chartHost(high(spec, shares.layers), rows), details);
  const heads = disclosed("Numbers", () => headTable(merge, shares));
  const neurons = disclosed("Numbers", () => neuronTable(merge, layers));
  return section("Who wins which head and neuron", "winners",
    el("p", { class: "about" }, "A model's share of a node is λF / ΣλF: the part that it has in the merged rows which the node governs."),
    el("p", { class: "key" }, merge.parts.map((part, index) => el("span", {}, swatch(index), " ", name(part.name))), merge.parts.length > 1 && el("span", {}, "= a tie")),
    el("div", { class: "two" },
      chart("Attention heads: the winner and its share, %", templates.winners, () => winnerRows(merge, shares), heads),
      el("div", {},
        el("div", { class: "pair" },
          chart("Neurons: mean share, %", templates.mean, () => layerRows(merge, layers, "mean")),
          chart("Neurons: won, %", templates.won, () => layerRows(merge, layers, "won"))),
        neurons)));
}

function headTable(merge, { attention }) {
  const headings = ["Layer", "Head", ...merge.parts.map((part) => ({ text: name(part.name), class: "number" }))];
  const rows = attention.shares.map((shares, node) =>
    [String(Math.floor(node / attention.nodes)), String(node % attention.nodes), ...shares.map((share) => percent(share, 3))]);
  return table("Shares of the attention heads, %", headings, rows, { class: "shares heads" });
}

function neuronTable(merge, layers) {
  const of = (what) => merge.parts.map((part) => ({ text: [name(part.name), ` ${what}`], class: "number" }));
  const rows = layers.map(({ mean, won }, layer) => [String(layer), ...[...mean, ...won].map((share) => percent(share, 3))]);
  return table("Shares of the neurons, %", ["Layer", ...of("mean"), ...of("won")], rows, { class: "shares neurons" });
}
