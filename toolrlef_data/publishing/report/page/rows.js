// The rows: read from the compressed lines, which `rows.py` describes, with the responses of each.

const rows = []; // all rows, in the order of the file
const earlier = new Map(); // config and number of the pair -> the row of the earlier version
const families = new Map(); // id up to "#" -> its rows
const requests = new Map(); // JSON of table, task, data set, whether there is an input -> requests
let versions, tables, goldAnswers;

async function load() {
  const text = $("data").textContent;
  const packed = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(text)
    : Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new ReadableStream({
    start(source) {
      source.enqueue(packed);
      source.close();
    },
  });
  const reader = stream.pipeThrough(new DecompressionStream("gzip")).pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  let last = null;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (pending + part.value).split("\n");
    pending = lines.pop();
    for (const line of lines) {
      const read = JSON.parse(line);
      if (Array.isArray(read)) addRow(read);
      else if (tables) last = read;
      else ({ versions, tables } = read);
    }
  }
  for (const [place, found] of last.requests) requests.set(JSON.stringify(place), found);
  goldAnswers = last.gold_answers;
}

function addRow([number, split, change, pair, calls, values]) {
  const table = tables[number];
  const get = (name) => values[table.columns.indexOf(name)] ?? null;
  const row = {
    number,
    table,
    split,
    change,
    pair,
    calls,
    values,
    get,
    task: get("task") ?? "",
    dataset: get("dataset") ?? "",
  };
  if (change === "before") {
    earlier.set(`${table.config} ${pair}`, row);
    return;
  }
  row.id = asText(get("id"));
  row.responses = responsesOf(row);
  row.notes = [...asList(get("flags")), ...["reason", "need", "kind", "finish_type"].map(get)].filter(
    (note) => typeof note === "string",
  );
  row.haystack = strings(
    table.columns.map((name, i) => (name === "instruction" || (name === "query" && get("input")) ? null : values[i])),
  )
    .join("\n")
    .toLowerCase();
  const family = row.id.split("#")[0];
  if (!families.has(family)) families.set(family, []);
  families.get(family).push(row);
  rows.push(row);
}

const asList = (value) => (Array.isArray(value) ? value : []);

function strings(value) {
  if (typeof value === "string") return [value];
  return value && typeof value === "object" ? Object.values(value).flatMap(strings) : [];
}

// The responses of a row: name, score, grade and what the page shows of each; a row without any counts as one.
function responsesOf(row) {
  const { get, table } = row;
  if (table.kind === "stage2") return asList(get("origin")).map((name, i) => stage2Response(row, String(name), i));
  if (table.kind === "responses") return table.responders.map((name) => structResponse(name, get(name)));
  const who = get("source") ?? get("teacher");
  const grade = table.columns.includes("correct") ? gradeOf(get("correct")) : "";
  const error = get("error");
  return [
    {
      name: typeof who === "string" ? who : "",
      score: null,
      grade,
      tool: get("uses_tool"),
      error: typeof error === "string" ? error : "",
    },
  ];
}

const gradeOf = (correct) => (correct === true ? "right" : correct === false ? "wrong" : "open");
const withDetail = (kind, detail) => (kind && detail ? `${kind}: ${detail}` : (kind ?? ""));

function stage2Response(row, name, i) {
  const at = (column) => asList(row.get(column))[i] ?? null;
  const tokens = at("logprob_tokens");
  const value = at("logprobs");
  const logprob =
    value === null
      ? (at("logprob_errors") ?? "")
      : `${round(value)} nats` + (tokens ? `, ${tokens} tokens, ${round(value / tokens)} per token` : "");
  return {
    name,
    score: at("scores"),
    grade: row.get("correct") ? gradeOf(at("correct")) : "",
    tool: at("uses_tool"),
    error: at("errors") ?? "",
    shown: {
      score: asText(at("scores")),
      text: asText(at("responses")),
      call: row.calls?.[i] ?? "",
      output: asText(at("tool_outputs")),
      error: withDetail(at("errors"), at("error_details")),
      prediction: asText(at("answer")),
      logprob,
      finish: asText(at("finish_reasons")),
    },
  };
}

function structResponse(name, fields) {
  const own = fields ?? {};
  const graded = own.n_calls != null || own.correct != null;
  return {
    name,
    score: null,
    grade: graded ? gradeOf(own.correct) : "",
    tool: own.n_calls == null ? null : Boolean(own.tool),
    error: own.tool_error ?? own.error ?? "",
    shown: {
      text: asText(own.text),
      call: own.tool ? `${own.tool}(${own.argument ?? "..."})` : "",
      output: asText(own.tool_output),
      error: withDetail(own.tool_error, own.tool_error_detail) || withDetail(own.error, own.error_detail),
      prediction: asList(own.predictions).map(asText).join(" | "),
      finish: asText(own.finish_reason),
      reasoning: asText(own.reasoning),
    },
  };
}

const round = (number) => (typeof number === "number" ? String(Math.round(number * 1000) / 1000) : asText(number));
const questionOf = (row) => asText(["input", "question", "query"].map(row.get).find((value) => value));
