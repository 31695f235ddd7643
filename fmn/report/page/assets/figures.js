// Charts with their titles and tables, and the marks that stand for methods and models.

/** A chart, its title, and a table of its numbers. */
function figure(chart, { title = chart.title, note = null, level = "h3" } = {}) {
  const rows = rowsOf(chart.rows);
  return el(
    "figure",
    {},
    el("figcaption", {}, el(level, {}, title), note && el("p", {}, note)),
    chartHost(chart.spec, () => rows),
    numbers(chart.title, chart.columns, rows),
  );
}

/** The boards of a section: single charts beside each other, then boards of several. */
function boards(section) {
  const all = boardsOf(section);
  return [
    el("div", { class: "two" }, all.filter((board) => !board.heading).map(single)),
    all.filter((board) => board.heading).map(several),
  ];
}

function single({ charts, note, title, empty }) {
  if (charts.length) return charts.map((chart) => figure(chart, { note }));
  return (
    empty &&
    el("figure", {}, el("figcaption", {}, el("h3", {}, title)), el("p", { class: "empty" }, empty))
  );
}

function several({ charts, heading, note, empty }) {
  const figures = charts.map((chart) =>
    headed(chart, chart.of.method ? methodName(chart.of.method) : name(chart.title)),
  );
  return [
    el("h3", {}, heading),
    el("p", { class: "about" }, note),
    figures.length ? el("div", { class: "grid" }, figures) : el("p", { class: "empty" }, empty),
  ];
}

/** A small chart under a heading that is more than text. */
function headed(chart, heading) {
  const made = figure(chart, { level: "h4" });
  made.querySelector("h4").replaceChildren(heading);
  return made;
}

/** Make a spec whose height is that of one row as high as so many need. */
const high = (spec, rows) => ({ ...spec, height: spec.height * rows });

/** The numbers of a chart as a table, which is made when it is opened. */
function numbers(title, columns, rows) {
  const fields = Object.keys(columns);
  const headings = fields.map((field) => ({
    text: columns[field],
    class: typeof rows[0]?.[field] === "number" ? "number" : null,
  }));
  const make = () =>
    table(
      `${title}: the numbers`,
      headings,
      rows.map((row) => fields.map((field) => written(row[field]))),
    );
  return disclosed("Numbers", make);
}

function written(value) {
  if (typeof value !== "number") return value == null ? "–" : name(String(value));
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
}

/** What is shown when somebody asks for it. */
function disclosed(summary, make) {
  const details = el("details", {}, el("summary", {}, summary));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(make());
  });
  return details;
}

const SHAPES = {
  circle: "M5 1a4 4 0 1 0 0 8a4 4 0 1 0 0-8z",
  square: "M1.5 1.5h7v7h-7z",
  "triangle-up": "M5 1l4.2 7.6h-8.4z",
  diamond: "M5 0.4l4.2 4.6l-4.2 4.6l-4.2-4.6z",
  "triangle-down": "M5 9l4.2-7.6h-8.4z",
  cross: "M3.6 1h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z",
};

const colourOf = (index) => CHARTS.categories[index] ?? CHARTS.other;

/** A method with its mark: the same colour and shape as in the charts. */
function methodName(label) {
  const slot = SLOTS.get(label);
  const shape = SHAPES[CHARTS.shapes[slot % CHARTS.shapes.length]];
  const mark = svg(
    "svg",
    { viewBox: "0 0 10 10", class: "mark", "aria-hidden": "true" },
    svg("path", { d: shape, fill: colourOf(slot) }),
  );
  return el("span", { class: "method" }, mark, name(label));
}

/** The letter of a merge's model, on its colour. */
function swatch(index) {
  const colour = colourOf(index);
  return el(
    "span",
    {
      class: "swatch",
      style: `background:${colour};color:${inkOn(colour)}`,
      "aria-hidden": "true",
    },
    letter(index),
  );
}

const letter = (index) => (index < 26 ? String.fromCharCode(97 + index) : String(index + 1));

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function luminance(hex) {
  const [red, green, blue] = channels(hex).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Black or white, whichever has the greater contrast. */
const inkOn = (hex) => (luminance(hex) > 0.179 ? "#000000" : "#ffffff");

function mixed(hex, other, part) {
  const to = channels(other);
  const mix = channels(hex).map((value, index) =>
    Math.round(part * value + (1 - part) * to[index]),
  );
  return `#${mix.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}
