// Addresses, the theme, and the frame around the views.

const main = document.getElementById("main");
const SECTIONS = { "": "Leaderboard", compare: "Comparison", models: "Models", runs: "Runs" };
const scrolled = new Map(); // address → how far down it was when it was left
let lastQuery = ""; // of the leaderboard, for the ways back to it
let shown = null; // the address whose view is there
let followed = false; // a link was, rather than the browser's way back

function parsed(hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split(/\?(.*)/s);
  const [view, key] = path.split("/");
  return { view, key, query };
}

function route() {
  const left = shown;
  shown = location.hash || "#/";
  const heading = showView(parsed(shown));
  if (followed) arrive(heading);
  else if (left != null) goBack(left);
  else if (!isTop(heading)) heading.scrollIntoView();
  followed = false;
}

/** Show what an address says; return the heading that it leads to. */
function showView({ view, key, query }) {
  if (view in SECTIONS) return showHome(view, query);
  if (view === "merge") return showOne(find(DATA.merges, key), mergeView, titleOf, view);
  if (view === "model")
    return showOne(find(DATA.models, key), modelView, (model) => model.name, view);
  return showOne(null, null, null, "page");
}

function showHome(view, query) {
  const anew =
    !document.getElementById("leaderboard") || (view === "" && query !== lastQuery.slice(1));
  if (view === "" && anew) lastQuery = query && `?${query}`;
  if (anew) show(() => home(chosenFrom(lastQuery.slice(1)), chose));
  document.title = "fmn report";
  markSection(view);
  return document.getElementById(view || "leaderboard");
}

/** Keep what is chosen in the address: it can be sent to somebody, and is there on the way back. */
function chose(state) {
  lastQuery = queryOf(state);
  shown = `#/${lastQuery}`;
  history.replaceState(null, "", shown);
  markSection("");
}

function showOne(item, view, title, kind) {
  show(() => (item ? view(item) : missing(kind)));
  document.title = item ? `${title(item)} · fmn report` : "fmn report";
  markSection(null);
  return document.getElementById("title");
}

function missing(kind) {
  return [
    el("h2", { id: "title", tabindex: -1, class: "title" }, `No such ${kind}`),
    el(
      "p",
      { class: "empty" },
      "This report has none with that address, or several. ",
      el("a", { href: "#/" }, "Back to the leaderboard"),
    ),
  ];
}

function show(make) {
  forget();
  main.replaceChildren(...make());
}

const isTop = (heading) => ["leaderboard", "title"].includes(heading.id);

function arrive(heading) {
  heading.focus({ preventScroll: true });
  if (isTop(heading)) scrollTo(0, 0);
  else heading.scrollIntoView();
}

/** The browser's way back leads to where one was, and to the link that one had followed. */
function goBack(left) {
  scrollTo(0, scrolled.get(shown) ?? 0);
  const isOne = /^#\/(merge|model)\//.test(left);
  const link =
    isOne &&
    [...main.querySelectorAll("a[href]")].find((each) => each.getAttribute("href") === left);
  (link || main).focus({ preventScroll: true });
}

function markSection(view) {
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === `#/${view}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function startTheme() {
  const input = document.getElementById("theme");
  const root = document.documentElement;
  const apply = (value) => {
    if (value) root.dataset.theme = value;
    else delete root.dataset.theme;
    redraw();
  };
  try {
    input.value = localStorage.getItem("fmn-theme") ?? "";
  } catch {
    // a browser that keeps nothing for a page from a file
  }
  if (input.value) apply(input.value);
  input.addEventListener("change", () => {
    apply(input.value);
    try {
      localStorage.setItem("fmn-theme", input.value);
    } catch {
      // as above
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

function start() {
  history.scrollRestoration = "manual";
  document
    .getElementById("nav")
    .append(
      ...Object.entries(SECTIONS).map(([view, title]) => el("a", { href: `#/${view}` }, title)),
    );
  document
    .getElementById("foot")
    .append(el("p", {}, `Made by fmn ${DATA.version}. This page is one file; it loads nothing.`));
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#/']");
    if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
    scrolled.set(shown, scrollY);
    followed = true;
    if (link.getAttribute("href") === location.hash) route();
  });
  addEventListener("hashchange", route);
  addEventListener("scroll", hideTip, { passive: true });
  startTheme();
  route();
}

start();
