// The list: only the rows in view, and the selected one, are in the document.

const ROW_HEIGHT = 54; // pixels, as in page.css
const MARGIN = 6; // rows outside the view that the list keeps
const SNIPPET = 300; // characters of a text in the list

let active = 0; // the position of the selected row in `shown`

// Keep the elements of the rows in view, and of the selected row, in the document.
function draw() {
  const grid = $("grid"),
    body = $("body");
  const first = Math.max(0, Math.floor(grid.scrollTop / ROW_HEIGHT) - MARGIN);
  const last = Math.min(shown.length, Math.ceil((grid.scrollTop + grid.clientHeight) / ROW_HEIGHT) + MARGIN);
  const isWanted = (i) => (i >= first && i < last) || i === active;
  const kept = new Map();
  for (const line of [...body.children]) {
    const i = Number(line.dataset.position);
    if (isWanted(i)) kept.set(i, line);
    else line.remove();
  }
  const wanted = [
    ...new Set([...Array(last - first).keys()].map((i) => i + first).concat(shown.length ? [active] : [])),
  ].sort((a, b) => a - b);
  let next = null;
  for (const i of wanted.reverse()) {
    if (!kept.has(i)) body.insertBefore(kept.set(i, rowElement(shown[i], i)).get(i), next);
    next = kept.get(i);
    next.tabIndex = i === active ? 0 : -1;
    next.setAttribute("aria-selected", i === active);
  }
}

function rowElement(row, i) {
  const line = element("div", { role: "row", "aria-rowindex": i + 2, "data-position": i });
  line.style.top = `${i * ROW_HEIGHT}px`;
  const cell = (...parts) => element("div", { role: "gridcell" }, ...parts);
  const notes = [row.change && row.change !== "same" ? CHANGES[row.change] : "", ...row.notes]
    .filter(Boolean)
    .join(", ");
  const lines = [questionOf(row), row.get("output"), row.get("detail"), targetOf(row)]
    .map(asText)
    .filter(Boolean)
    .concat("", "");
  line.append(
    cell(named("div", row.id), named("div", row.table.config, { class: "soft" })),
    cell(named("div", cut(lines[0], SNIPPET)), element("div", {}, ...chips(row, lines[1]))),
    cell(
      named("div", cut(notes, SNIPPET)),
      named("div", [row.task, row.dataset].filter(Boolean).join(", "), { class: "soft" }),
    ),
  );
  return line;
}

function chips(row, text) {
  const made = row.responses
    .filter((one) => one.name || one.grade || one.error)
    .map((one) => {
      const chip = named("span", [one.name, round(one.score), one.error].filter((part) => part !== "").join(" "), {
        class: `chip ${one.grade}`,
      });
      if (one.grade)
        chip.append(
          " ",
          element("span", { "aria-hidden": "true" }, GRADES[one.grade][1]),
          element("span", { class: "hidden" }, GRADES[one.grade][0]),
        );
      return chip;
    });
  return [...made, named("span", row.table.kind === "rows" ? cut(text, SNIPPET) : "", { class: "soft" })];
}

function select(position, focus) {
  if (!shown.length) return;
  active = Math.max(0, Math.min(shown.length - 1, position));
  const grid = $("grid"),
    top = active * ROW_HEIGHT,
    room = grid.clientHeight - $("grid").firstElementChild.offsetHeight;
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (top + ROW_HEIGHT > grid.scrollTop + room) grid.scrollTop = top + ROW_HEIGHT - room;
  draw();
  if (focus) $("body").querySelector("[tabindex='0']").focus({ preventScroll: true });
}

function onGridKey(event) {
  const page = Math.max(1, Math.floor($("grid").clientHeight / ROW_HEIGHT) - 1);
  const targets = {
    ArrowDown: active + 1,
    ArrowUp: active - 1,
    PageDown: active + page,
    PageUp: active - page,
    Home: 0,
    End: shown.length - 1,
  };
  if (event.key in targets && !event.altKey) select(targets[event.key], true);
  else if (event.key === "Enter" || event.key === " ") open(shown[active]);
  else return;
  event.preventDefault();
}
