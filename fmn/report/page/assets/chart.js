// Vega-Lite charts: drawn when they come into view, and drawn again when the theme changes.

const live = new Map(); // host → { spec, rows, view }
const drawn = new IntersectionObserver(
  (entries) =>
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "400px" },
);

function theme() {
  const chosen = document.documentElement.dataset.theme;
  return chosen || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

const tokens = () => CHARTS.tokens[theme()];

/** Turn columns into rows. */
function rowsOf(columns) {
  const fields = Object.keys(columns);
  const length = fields.length ? columns[fields[0]].length : 0;
  return Array.from({ length }, (_, index) =>
    Object.fromEntries(fields.map((field) => [field, columns[field][index]])),
  );
}

/** Say where a chart will be; its rows are asked for when it is in view, or the theme changes. */
function chartHost(spec, rows) {
  const host = el("div", { class: "chart", style: `min-height:${spec.height + 60}px` });
  live.set(host, { spec, rows, view: null });
  drawn.observe(host);
  return host;
}

async function draw(host) {
  drawn.unobserve(host);
  const { spec, rows, view } = live.get(host);
  view?.finalize();
  const now = theme();
  const options = {
    ast: true,
    actions: false,
    renderer: "svg",
    defaultStyle: false,
    tooltip: showTip,
    config: CHARTS.config[now],
  };
  const made = await window.vegaEmbed(host, { ...spec, datasets: { rows: rows() } }, options);
  if (!live.has(host)) return made.finalize(); // the view was left meanwhile
  live.get(host).view = made;
  host.dataset.theme = now;
  host.style.minHeight = "";
  if (now !== theme()) await draw(host);
}

function redraw() {
  for (const [host, chart] of live) if (chart.view) draw(host);
}

/** Forget the charts of a view that is left. */
function forget() {
  for (const [host, chart] of live) {
    drawn.unobserve(host);
    chart.view?.finalize();
  }
  live.clear();
  hideTip();
}

const tip = document.getElementById("tip");

function hideTip() {
  tip.hidden = true;
}

/** Show a mark's values beside the pointer, as text. */
function showTip(handler, event, item, value) {
  if (value == null || value === "") return hideTip();
  const entries = typeof value === "object" ? Object.entries(value) : [["", String(value)]];
  tip.replaceChildren(
    ...entries.map(([term, text]) => el("div", {}, el("span", {}, term), name(String(text)))),
  );
  tip.hidden = false;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 16;
  const top =
    below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, top)}px`;
}
