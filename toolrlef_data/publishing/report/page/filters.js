// The filters: their choices are the values in the rows, and `shown` are the rows that fit.

const GRADES = { right: ["right", "✓"], wrong: ["wrong", "✗"], open: ["not graded", "?"] };
const CHANGES = { same: "same", added: "added", removed: "removed", changed: "changed" };

let shown = []; // the rows that the filters keep

// The filters of a row, and those of one of its responses, by the id of their element.
const ROW_FILTERS = {
  table: (row) => [row.table.config],
  task: (row) => [row.task],
  dataset: (row) => [row.dataset],
  split: (row) => [row.split],
  change: (row) => (row.change ? [CHANGES[row.change]] : []),
  flag: (row) => row.notes,
};
const RESPONSE_FILTERS = {
  responder: (one) => [one.name],
  grade: (one) => (one.grade ? [GRADES[one.grade][0]] : []),
  tool: (one) => (one.tool === null ? [] : [one.tool ? "called" : "not called"]),
  error: (one) => (one.error ? ["any error", one.error] : ["no error"]),
};

function fillFilters() {
  for (const [id, keys] of Object.entries(ROW_FILTERS)) fillFilter(id, rows.map(keys));
  const responses = rows.flatMap((row) => row.responses);
  for (const [id, keys] of Object.entries(RESPONSE_FILTERS)) fillFilter(id, responses.map(keys));
  if (!responses.some((one) => one.score !== null))
    for (const id of ["least", "most"]) $(id).parentElement.hidden = true;
  const fields = document.querySelector("#filters fieldset");
  fields.hidden = [...fields.querySelectorAll("label")].every((label) => label.hidden);
}

function fillFilter(id, found) {
  const counts = new Map();
  for (const keys of found)
    for (const key of new Set(keys)) if (key !== "") counts.set(key, (counts.get(key) ?? 0) + 1);
  const options = [...counts].map(([key, count]) => {
    const option = named("option", `${key.slice(0, 80)} (${count.toLocaleString("en")})`);
    option.value = key;
    return option;
  });
  $(id).replaceChildren(Object.assign(element("option", {}, "all"), { value: "" }), ...options);
  $(id).parentElement.hidden = counts.size < 2;
}

function filter() {
  const chosen = (filters) =>
    Object.entries(filters)
      .filter(([id]) => $(id).value !== "")
      .map(([id, keys]) => [keys, $(id).value]);
  const ofRow = chosen(ROW_FILTERS),
    ofResponse = chosen(RESPONSE_FILTERS);
  const text = $("text").value.toLowerCase();
  const least = $("least").value === "" ? null : Number($("least").value),
    most = $("most").value === "" ? null : Number($("most").value);
  const fits = (one) =>
    ofResponse.every(([keys, value]) => keys(one).includes(value)) &&
    (least === null || (one.score !== null && one.score >= least)) &&
    (most === null || (one.score !== null && one.score <= most));
  const any = ofResponse.length || least !== null || most !== null;
  shown = rows.filter(
    (row) =>
      ofRow.every(([keys, value]) => keys(row).includes(value)) &&
      (!any || row.responses.some(fits)) &&
      (!text || row.haystack.includes(text)),
  );
  active = 0;
  $("count").textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  $("grid").setAttribute("aria-rowcount", shown.length + 1);
  $("grid").scrollTop = 0;
  $("body").replaceChildren();
  $("body").style.height = `${shown.length * ROW_HEIGHT}px`;
  draw();
}
