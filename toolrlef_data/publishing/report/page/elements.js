"use strict";
// Elements and texts. Texts come from models: they reach the page only as text nodes (`put`), never as HTML.

const LONG = 4000; // characters of a text that are shown before its button is pressed
// Characters that are invisible or change the order of others; joiners of emoji and Persian stay as they are.
const INVISIBLE = /(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

const $ = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Append a text to an element, with a visible name for each invisible character.
function put(parent, text) {
  let end = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    parent.append(text.slice(end, match.index));
    const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    parent.append(element("span", { class: "char", title: "invisible character" }, `U+${code}`));
    end = match.index + match[0].length;
  }
  parent.append(text.slice(end));
  return parent;
}

const named = (tag, text, attributes = {}) => put(element(tag, attributes), text);

// The beginning of a text, without half of a surrogate pair at its end.
const cut = (text, length) => (text.length > length ? text.slice(0, length).replace(/[\ud800-\udbff]$/, "") : text);

// A text of any length, complete after a click.
function textBlock(text, attributes = { class: "text" }) {
  const block = element("div", attributes);
  put(block, cut(text, LONG));
  if (text.length > LONG) {
    const more = element("button", { type: "button" }, `Show all ${text.length.toLocaleString("en")} characters`);
    more.addEventListener("click", () => {
      block.replaceChildren();
      put(block, text);
    });
    block.append("… ", more);
  }
  return block;
}

const asText = (value) =>
  value === null || value === undefined
    ? ""
    : typeof value === "string"
      ? value
      : typeof value === "object"
        ? JSON.stringify(value, null, 1)
        : String(value);
