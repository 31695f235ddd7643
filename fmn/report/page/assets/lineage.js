// Where a merge came from, drawn from left to right: parent, models, Fishers, merge, scores.

const NODE = { width: 168, height: 50, gapX: 62, gapY: 16 };

function lineage(merge) {
  const rows = merge.members.length;
  const step = NODE.height + NODE.gapY;
  const middle = ((rows - 1) * step) / 2;
  const fishers = merge.members.some((member) => member.fisher);
  const ranks = ["parent", "models", ...(fishers ? ["fishers"] : []), "merge", "scores"];
  const at = (rank, y) => ({ x: 2 + ranks.indexOf(rank) * (NODE.width + NODE.gapX), y: y + 28 });
  const parent = node(at("parent", middle), parentName(), "the pretrained parent");
  const result = node(at("merge", middle), merge.method, `${merge.by} · ${merge.at.slice(0, 10)}`, {
    strong: true,
  });
  const edges = [];
  const nodes = [parent, result];
  merge.members.forEach((member, index) => {
    const model = modelNode(at("models", index * step), member, index);
    const score = node(
      at("scores", index * step),
      `${member.task} ${percent(member.score)}`,
      scoreNote(member),
    );
    const fisher =
      member.fisher &&
      node(at("fishers", index * step), member.statistic || "statistic", fisherNote(member));
    nodes.push(model, score, ...(fisher ? [fisher] : []));
    edges.push(edge(parent, model), edge(result, score));
    edges.push(
      ...(fisher
        ? [edge(model, fisher), edge(fisher, result, `λ ${member.weight}`)]
        : [edge(model, result, `λ ${member.weight}`)]),
    );
  });
  const width = ranks.length * (NODE.width + NODE.gapX) - NODE.gapX + 4;
  const height = rows * step - NODE.gapY + 32;
  const titles = ranks.map((rank) =>
    svg(
      "text",
      { class: "rank", x: at(rank, 0).x, y: 12 },
      rank === "fishers" ? "Statistics" : capital(rank),
    ),
  );
  const drawing = svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      class: "lineage",
      role: "group",
      "aria-label": "Lineage of the merge",
    },
    edges.map((each) => each),
    titles,
    nodes.map((each) => each.drawn),
  );
  return box("Lineage", drawing);
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

const parentName = () => DATA.parent ?? "parent";

function scoreNote(member) {
  return member.individual == null
    ? "not measured alone"
    : `alone ${percent(member.individual)} · ${percent(member.normalized, 0)} %`;
}

function fisherNote(member) {
  const fisher = FISHERS.get(member.fisher);
  return fisher ? `${fisher.by} · ${fisher.at.slice(0, 10)}` : member.fisher.slice(0, 20);
}

function modelNode(place, member, index) {
  const model = DATA.models[member.model];
  const made = node(place, member.name, `weights ${model.weights.slice(0, 10)}`, { mark: index });
  const link = svg(
    "a",
    { href: `#/model/${modelKey(member.model)}`, "aria-label": `Model ${member.name}` },
    made.drawn,
  );
  return { ...made, drawn: link };
}

/** A box with two lines of text; what does not fit is cut, and said whole in its title. */
function node(place, text, note, { strong = false, mark = null } = {}) {
  const { width, height } = NODE;
  const left = mark == null ? 10 : 32;
  const room = mark == null ? 21 : 17;
  const colour = mark == null ? null : colourOf(mark);
  const drawn = svg(
    "g",
    { transform: `translate(${place.x} ${place.y})`, class: strong ? "node strong" : "node" },
    svg("title", {}, `${text}\n${note}`),
    svg("rect", { width, height, rx: 4 }),
    colour &&
      svg("rect", {
        class: "letter",
        x: 8,
        y: 8,
        width: 17,
        height: 17,
        rx: 3,
        style: `fill:${colour}`,
      }),
    colour &&
      svg(
        "text",
        {
          class: "letter",
          x: 16.5,
          y: 20.5,
          "text-anchor": "middle",
          style: `fill:${inkOn(colour)}`,
        },
        letter(mark),
      ),
    svg(
      "svg",
      { width: width - 4, height }, // cuts off what is wider than most letters
      svg("text", { class: "name", x: left, y: 21 }, cut(text, room)),
      svg("text", { class: "note", x: 10, y: 39 }, cut(note, 26)),
    ),
  );
  return { ...place, drawn };
}

function cut(text, length) {
  const characters = [...text];
  return characters.length > length ? `${characters.slice(0, length - 1).join("")}…` : text;
}

function edge(from, to, label = null) {
  const [x1, y1, x2, y2] = [
    from.x + NODE.width,
    from.y + NODE.height / 2,
    to.x,
    to.y + NODE.height / 2,
  ];
  const bend = (x1 + x2) / 2;
  const line = svg("path", {
    class: "edge",
    d: `M${x1} ${y1}C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}`,
  });
  return svg("g", {}, line, label && svg("text", { class: "weight", x: x1 + 6, y: y1 - 5 }, label));
}
