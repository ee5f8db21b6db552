// The changed values of a row of two versions.

function changes(row) {
  const before = earlier.get(`${row.table.config} ${row.pair}`);
  if (row.pair === null || !before) return [];
  const lines = [];
  for (const name of row.table.columns.filter((column) => before.table.columns.includes(column))) {
    const [a, b] = [before.get(name), row.get(name)];
    if (JSON.stringify(a) === JSON.stringify(b)) continue;
    const names = row.responses.map((one) => one.name),
      old = before.get("origin");
    const perResponse =
      Array.isArray(a) &&
      Array.isArray(b) &&
      a.length === b.length &&
      a.length === names.length &&
      row.table.kind === "stage2" &&
      JSON.stringify(old) === JSON.stringify(row.get("origin")) &&
      name !== "answers";
    if (perResponse)
      names.forEach(
        (one, i) =>
          JSON.stringify(a[i]) !== JSON.stringify(b[i]) && lines.push(changeLine(`${name}, ${one}`, a[i], b[i])),
      );
    else lines.push(changeLine(name, a, b));
  }
  if (before.split !== row.split) lines.push(changeLine("split", before.split, row.split));
  const head = element(
    "tr",
    {},
    ...["Column", `Version ${versions[0]}`, `Version ${versions[1]}`].map((text) =>
      named("th", text, { scope: "col" }),
    ),
  );
  return [
    heading("Changed values"),
    element(
      "div",
      { class: "scroll" },
      element("table", { class: "sides" }, element("thead", {}, head), element("tbody", {}, ...lines)),
    ),
  ];
}

// Both values, with a mark on the part that differs.
function changeLine(title, before, after) {
  const [a, b] = [before, after].map((value) => (value === null ? "null" : asText(value)));
  const splits = (text, at) => /[\ud800-\udbff]/.test(text[at - 1]) && /[\udc00-\udfff]/.test(text[at]);
  let start = 0,
    end = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start += 1;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  if (splits(a, start) || splits(b, start)) start -= 1;
  if (splits(a, a.length - end) || splits(b, b.length - end)) end -= 1;
  const cell = (text) => {
    const block = put(element("div", { class: "text" }), text.slice(0, start));
    if (start < text.length - end) block.append(put(element("mark"), text.slice(start, text.length - end)));
    return element("td", {}, put(block, text.slice(text.length - end)));
  };
  return element("tr", {}, named("th", title, { scope: "row" }), cell(a), cell(b));
}
