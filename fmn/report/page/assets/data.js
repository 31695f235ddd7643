// The report's data, and what follows from them.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const DATA = read("data");
const CHARTS = read("charts");

/** The fewest digits, eight at least, that tell some keys apart. */
function digits(keys) {
  let length = 8;
  while (length < 64 && new Set(keys.map((key) => key.slice(0, length))).size < new Set(keys).size)
    length += 1;
  return length;
}

const DIGITS = {
  merge: digits(DATA.merges.map((merge) => merge.key)),
  model: digits(DATA.models.map((model) => model.key)),
};

const idOf = (merge) => merge.key.slice(0, DIGITS.merge);
const methodOf = (merge) => CHARTS.methodLabels[merge.key];
const METHODS = CHARTS.methods.map(([label]) => label);
const SLOTS = new Map(CHARTS.methods); // label → number of its colour and shape

function modelLink(index, text = CHARTS.modelLabels[index]) {
  return el("a", { href: `#/model/${DATA.models[index].key.slice(0, DIGITS.model)}` }, name(text));
}

function mergeLink(merge, ...children) {
  return el("a", { href: `#/merge/${idOf(merge)}` }, children);
}

const titleOf = (merge) => merge.members.map((member) => member.name).join(" + ");

function titleNodes(merge) {
  return joined(
    merge.members.map((member) => name(member.name)),
    " + ",
  );
}

/** Find by the first digits of a key; nothing if several have them. */
function find(items, prefix) {
  const matching = prefix ? items.filter((item) => item.key.startsWith(prefix)) : [];
  return matching.length === 1 ? matching[0] : null;
}

const FISHERS = new Map(DATA.fishers.map((fisher) => [fisher.key, fisher]));

const boardsOf = (section) => CHARTS.boards.filter((board) => board.section === section);

const FISHER_CHARTS = new Map(
  boardsOf("fishers").flatMap(({ charts }) =>
    charts.map((chart) => [`${chart.of.fisher} ${chart.of.kind}`, chart]),
  ),
);

/** The charts of a Fisher by kind of node; a kind whose values are all 0 may have none. */
function chartsOf(fisher) {
  const kinds = Object.keys(fisher.nodes);
  return kinds.map((kind) => [kind, FISHER_CHARTS.get(`${fisher.key} ${kind}`)]);
}

function floats(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 4 }, (_, index) =>
    view.getFloat32(4 * index, true),
  );
}

/** The score by which a merge is chosen; its mean, unless some rows choose and others are scored. */
const choiceOf = (merge) => merge.choice ?? merge.mean;

const byChoice = (first, second) =>
  (choiceOf(second) ?? -Infinity) - (choiceOf(first) ?? -Infinity) ||
  first.key.localeCompare(second.key);

/** A difference, its interval, and whether it may be none; nothing if it is not known. */
function apartText(apart) {
  if (!apart) return null;
  const value = `${apart.value > 0 ? "+" : ""}${percent(apart.value)}`;
  return `${value}, ${ends(apart.interval)}${apart.inside ? ", inside the interval" : ""}`;
}

/** A score with its interval below. */
function sure(value, interval) {
  if (value == null) return "–";
  return [percent(value), el("small", { class: "ends" }, ends(interval))];
}

/** A difference with its interval below. */
function apartCell(apart) {
  if (!apart) return "–";
  const [value, ...rest] = apartText(apart).split(", ");
  return [value, el("small", { class: "ends" }, rest.join(", "))];
}

/** How a merge stands to the best of the same models. */
const standing = (merge) => (merge.is_best ? "best" : apartText(merge.from_best));

const intervalOf = (member) => member.intervals[member.metric];
