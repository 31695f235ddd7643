// The leaderboard: every merge, sorted, filtered, searched, and shown a page at a time so that
// thousands stay quick.

const PAGE = 25;
const MOST_COLUMNS = 6; // of models; with more of them, the scores are a list in one cell
const RANKED = CHARTS.elsewhere ? "-rank" : "-mean"; // where what is shown does not choose
const NOTHING = { q: "", method: [], with: [], size: "", tag: "", sort: RANKED, page: 1 };

const HAYSTACK = new Map(
  DATA.merges.map((merge) => {
    const members = merge.members.flatMap((member) => [member.name, member.task]);
    return [
      merge,
      [merge.key, methodOf(merge), ...members, ...merge.tags, merge.by, merge.note]
        .join("\n")
        .toLowerCase(),
    ];
  }),
);

const modelKey = (index) => DATA.models[index].key.slice(0, DIGITS.model);

/** Read what is chosen from the part of the address after "?". */
function chosenFrom(query) {
  const values = new URLSearchParams(query);
  const one = (key) => values.get(key) ?? NOTHING[key];
  const page = Math.max(1, parseInt(one("page"), 10) || 1);
  return {
    q: one("q"),
    method: values.getAll("method"),
    with: values.getAll("with"),
    size: one("size"),
    tag: one("tag"),
    sort: one("sort"),
    page,
  };
}

function queryOf(chosen) {
  const values = new URLSearchParams();
  for (const [key, value] of Object.entries(chosen)) {
    if (Array.isArray(value)) value.forEach((each) => values.append(key, each));
    else if (String(value) !== String(NOTHING[key])) values.set(key, value);
  }
  const text = values.toString();
  return text ? `?${text}` : "";
}

function matches(merge, chosen) {
  const has = new Set(merge.members.map((member) => modelKey(member.model)));
  return (
    (!chosen.method.length || chosen.method.includes(methodOf(merge))) &&
    chosen.with.every((key) => has.has(key)) &&
    (!chosen.size || merge.members.length === Number(chosen.size)) &&
    (!chosen.tag || merge.tags.includes(chosen.tag)) &&
    chosen.q
      .toLowerCase()
      .split(/\s+/)
      .every((word) => HAYSTACK.get(merge).includes(word))
  );
}

/** The columns: what they are sorted by, and what is in their cells. */
function columnsOf() {
  const perModel = DATA.models.length <= MOST_COLUMNS;
  return [
    {
      id: "rank",
      label: "#",
      value: CHARTS.elsewhere ? choiceOf : null,
      cell: (merge, rank) => String(rank),
      class: "rank number",
      falling: true,
    },
    {
      id: "models",
      label: "Models",
      value: (merge) => merge.members.length,
      cell: (merge) => mergeLink(merge, titleNodes(merge)),
      class: "title",
    },
    {
      id: "id",
      label: "ID",
      value: (merge) => merge.key,
      cell: (merge) => el("code", {}, idOf(merge)),
      class: "id",
    },
    {
      id: "method",
      label: "Method",
      value: methodOf,
      cell: (merge) => methodName(methodOf(merge)),
      class: "how",
    },
    {
      id: "mean",
      label: "Mean %",
      value: (merge) => merge.mean,
      cell: (merge) => percent(merge.mean),
      class: "mean number",
      falling: true,
    },
    { id: "sure", label: "Interval", cell: surety, class: "sure" },
    { id: "spread", label: "Each model", cell: strip, class: "spread" },
    {
      id: "worst",
      label: "Worst %",
      value: (merge) => merge.worst,
      cell: (merge) => percent(merge.worst),
      class: "worst number",
      falling: true,
    },
    ...(perModel
      ? DATA.models.map(modelColumn)
      : [{ id: "scores", label: "Scores", cell: scoreList, class: "scores" }]),
    {
      id: "tags",
      label: "Tags",
      value: (merge) => merge.tags.join(" ") || null,
      cell: tagList,
      class: "tags",
    },
    {
      id: "at",
      label: "Made",
      value: (merge) => merge.at,
      cell: (merge) => when(merge.at, 10),
      class: "at",
      falling: true,
    },
  ];
}

function modelColumn(model, index) {
  const memberOf = (merge) => merge.members.find((member) => member.model === index);
  return {
    id: modelKey(index),
    label: CHARTS.modelLabels[index],
    value: (merge) => memberOf(merge)?.score ?? null,
    cell: (merge) => scoreOf(memberOf(merge)),
    class: "model number",
    falling: true,
  };
}

function scoreOf(member) {
  if (!member) return el("span", { class: "none", "aria-label": "not in it" });
  return [
    percent(member.score, 1),
    " ",
    el("small", { title: "% of the model's own score" }, percent(member.normalized, 0)),
    intervalOf(member) &&
      el("small", { class: "ends", title: "interval" }, ends(intervalOf(member), 1)),
  ];
}

/** How sure the mean is, and how far it is from the best of the same models. */
function surety(merge) {
  if (merge.mean == null) return null;
  const apart = merge.from_best;
  const from = apart && `${percent(apart.value)} from best${apart.inside ? ", inside" : ""}`;
  const short = merge.is_best ? "best" : from;
  return [
    ends(merge.interval, 1),
    short && el("small", { class: "ends", title: standing(merge) }, short),
  ];
}

function scoreList(merge) {
  return el(
    "ul",
    {},
    merge.members.map((member) => el("li", {}, name(member.name), " ", scoreOf(member))),
  );
}

function tagList(merge) {
  const kept =
    merge.kept && el("span", { class: "tag kept", title: "The store keeps its weights" }, "kept");
  return [merge.tags.map((tag) => [name(tag, { class: "tag" }), " "]), kept].flat(2);
}

const NORMALIZED = DATA.merges
  .flatMap((merge) => merge.members.map((member) => member.normalized))
  .filter((value) => value != null);
const LOWEST = NORMALIZED.reduce((low, value) => Math.min(low, value), 0.9);
const HIGHEST = NORMALIZED.reduce((high, value) => Math.max(high, value), 1.02);

/** A point per model on one scale for all rows, and a line at 100 %. */
function strip(merge) {
  const at = (value) => 4 + (82 * (value - LOWEST)) / (HIGHEST - LOWEST);
  const members = merge.members.filter((member) => member.normalized != null);
  const points = members.map((member) =>
    svg("circle", { cx: at(member.normalized), cy: 7, r: 2.6 }),
  );
  const line = svg("path", { d: `M4 7H86M${at(1)} 1V13` });
  const label =
    members.map((member) => `${member.name} ${percent(member.normalized, 0)} %`).join(", ") ||
    "not measured";
  return svg(
    "svg",
    { viewBox: "0 0 90 14", class: "strip", role: "img", "aria-label": label },
    line,
    points,
  );
}

/** Sort; what has no value comes last in both directions. */
function sorted(merges, columns, sort) {
  const sign = sort.startsWith("-") ? -1 : 1;
  const column =
    columns.find((each) => each.id === sort.replace(/^-/, "") && each.value) ??
    columns.find((each) => each.id === RANKED.slice(1));
  const values = new Map(merges.map((merge) => [merge, column.value(merge)]));
  return [...merges].sort((first, second) => {
    const [one, other] = [values.get(first), values.get(second)];
    if (one == null || other == null)
      return (one == null) - (other == null) || byChoice(first, second);
    const order = typeof one === "number" ? one - other : one.localeCompare(other);
    return sign * order || byChoice(first, second);
  });
}

/** Make the leaderboard; `changed` is called with what is chosen. */
function leaderboard(chosen, changed) {
  const columns = columnsOf();
  const state = { ...chosen };
  const body = el("tbody");
  const head = el("tr");
  const status = el("p", { class: "status", role: "status", "aria-live": "polite" });
  const pager = el("div", { class: "pager" });

  function show() {
    const matching = sorted(
      DATA.merges.filter((merge) => matches(merge, state)),
      columns,
      state.sort,
    );
    const pages = Math.max(1, Math.ceil(matching.length / PAGE));
    state.page = Math.min(state.page, pages);
    const from = (state.page - 1) * PAGE;
    const rows = matching.slice(from, from + PAGE);
    body.replaceChildren(...rows.map((merge, index) => row(merge, from + index + 1, columns)));
    status.textContent = counted(matching.length, from, rows.length);
    pager.replaceChildren(
      ...(pages > 1 ? pagerButtons(state, pages, (page) => choose({ page })) : []),
    );
    head
      .querySelectorAll("th")
      .forEach((cell, index) => markSorted(cell, columns[index], state.sort));
  }

  function choose(change) {
    Object.assign(state, { page: 1 }, change);
    show();
    changed(state);
  }

  head.append(
    ...columns.map((column) => heading(column, () => choose({ sort: turned(column, state.sort) }))),
  );
  const whole = el(
    "table",
    { class: "board" },
    el("caption", { class: "hidden" }, "Merges"),
    el("thead", {}, head),
    body,
  );
  const controls = filters(state, columns, choose);
  show();
  return [controls, el("div", { class: "line" }, status, pager), whole];
}

function counted(count, from, shown) {
  const all = DATA.merges.length;
  const of = count === all ? plural(all, "merge") : `${number(count)} of ${plural(all, "merge")}`;
  return count > shown ? `${of}, ${number(from + 1)} to ${number(from + shown)} shown` : of;
}

function row(merge, rank, columns) {
  return el(
    "tr",
    {},
    columns.map((column) => {
      const attributes = { class: column.class, "data-label": column.label };
      const content = column.cell(merge, rank);
      return column.id === "models"
        ? el("th", { scope: "row", ...attributes }, content)
        : el("td", attributes, content);
    }),
  );
}

function heading(column, press) {
  const label = column.class.startsWith("model") ? name(column.label) : column.label;
  const content = column.value
    ? el("button", { type: "button", onclick: press, title: column.label }, label)
    : label;
  return el("th", { scope: "col", class: column.class }, content);
}

function markSorted(cell, column, sort) {
  if (sort.replace(/^-/, "") === column.id)
    cell.setAttribute("aria-sort", sort.startsWith("-") ? "descending" : "ascending");
  else cell.removeAttribute("aria-sort");
}

/** The other direction of the column that is sorted by, or the first direction of another. */
function turned(column, sort) {
  if (sort === column.id) return `-${column.id}`;
  if (sort === `-${column.id}`) return column.id;
  return column.falling ? `-${column.id}` : column.id;
}

function pagerButtons(state, pages, go) {
  const button = (label, page, enabled) =>
    el("button", { type: "button", disabled: !enabled, onclick: () => go(page) }, label);
  return [
    button("Previous", state.page - 1, state.page > 1),
    el("span", {}, `Page ${state.page} of ${pages}`),
    button("Next", state.page + 1, state.page < pages),
  ];
}
