// Shows the page in the visitor's language, whatever made its words: Gradio, our templates, an answer of the server.
// Texts stay English in the code and are looked up here by themselves: whole, or by patterns ("{n} steps").
// What a visitor has written is left alone: fields are no text nodes, and prompts stand in elements with dir="auto".
(() => {
  const table = /* table */ {};
  const KEY = "tdm-language", ATTRIBUTES = ["aria-label", "title", "placeholder", "aria-valuetext", "data-loading"], LONGEST = 600;
  const SKIPPED = "script, style, textarea, code, pre, kbd, [dir=auto], [data-as-is], .tdm-chip:not(.tdm-more)";

  function remembered() { try { return localStorage.getItem(KEY); } catch { return null; } } // some frames have none
  const wanted = new URLSearchParams(location.search).get("lang") ?? remembered() ?? navigator.language ?? "en";
  const language = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";

  const IN_WORDS = /^(words|problem|reasons?|name|sha|title|votes|things|machine|clock|prompt)$/; // every other {place} holds a number
  const place = (name) => (IN_WORDS.test(name) ? "(.+?)" : "([\\d.,\\s%−-]+?)");
  const escaped = (text) => text.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
  const fixed = (text) => (text.includes("{prompt}") ? 0 : text.replace(/\{\w+[^}]*\}/g, "").length);
  const withPlaces = Object.entries(table).filter(([english]) => english.includes("{"));
  withPlaces.sort(([one], [other]) => fixed(other) - fixed(one)); // "{words} · {name}" and a prompt fit much that has its own
  const patterns = withPlaces.map(([english, translated]) => {
    const names = [...english.matchAll(/\{(\w+)[^}]*\}/g)].map((match) => match[1]);
    const source = escaped(english).replace(/\{(\w+)[^}]*\}/g, (_, name) => place(name));
    return { names, translated, expression: new RegExp(`^${source}$`, "s") };
  });
  const known = new Map();

  function look(text) {
    if (Object.hasOwn(table, text)) return table[text];
    for (const { names, translated, expression } of patterns) {
      const found = expression.exec(text);
      if (!found) continue;
      const values = Object.fromEntries(names.map((name, index) => [name, (name !== "prompt" && look(found[index + 1])) || found[index + 1]]));
      return translated.replace(/\{(\w+)[^}]*\}/g, (_, name) => values[name] ?? "");
    }
    return null;
  }

  function translated(text) {
    const words = text.trim().replace(/\s+/g, " ");
    if (!/[A-Za-z]{2}/.test(words) || words.length > LONGEST) return null;
    if (!known.has(words)) {
      if (known.size > 2000) known.clear(); // clocks and counts make new texts for ever
      known.set(words, look(words));
    }
    const found = known.get(words);
    return found === null ? null : text.match(/^\s*/)[0] + found + text.match(/\s*$/)[0];
  }

  function visit(node) {
    if (node.nodeType === Node.TEXT_NODE) {
      const parent = node.parentElement;
      if (!parent || parent.closest(SKIPPED)) return;
      const found = translated(node.data);
      if (found !== null && found !== node.data) node.data = found;
      return;
    }
    if (node.nodeType !== Node.ELEMENT_NODE || node.matches("script, style")) return;
    for (const name of ATTRIBUTES) attribute(node, name);
    for (const child of node.childNodes) visit(child);
  }

  function attribute(element, name) {
    if (!element.hasAttribute(name) || element.closest("[data-as-is]")) return;
    const found = translated(element.getAttribute(name));
    if (found !== null && found !== element.getAttribute(name)) element.setAttribute(name, found); // or it never ends
  }

  function offer() {
    const header = document.querySelector(".tdm-header");
    if (!header || header.querySelector(".tdm-language")) return;
    const other = language === "zh" ? "en" : "zh";
    const button = Object.assign(document.createElement("button"), {
      type: "button", className: "tdm-language", lang: other, textContent: other === "zh" ? "中文" : "English",
    });
    button.dataset.asIs = "";
    button.addEventListener("click", () => {
      try { localStorage.setItem(KEY, other); } catch { /* the address tells it as well */ }
      const address = new URL(location.href);
      address.searchParams.set("lang", other);
      location.href = address;
    });
    header.append(button);
  }

  function changed(records) {
    offer();
    if (language === "en") return;
    for (const record of records) {
      if (record.type === "attributes") attribute(record.target, record.attributeName);
      else if (record.type === "characterData") visit(record.target);
      else for (const node of record.addedNodes) visit(node);
    }
  }

  function begin() {
    document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
    offer();
    if (language !== "en") visit(document.body);
    new MutationObserver(changed).observe(document.body, {
      childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ATTRIBUTES,
    });
  }
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
