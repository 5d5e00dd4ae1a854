"use strict";
// The page works without this: it adds sorting, the picture browser, and play and pause of clips.
(() => {
  const said = document.getElementById("said");
  const say = (text) => { said.textContent = text; };
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Tables: a press on a heading sorts by it, best first; again turns it round; a third time restores the order.
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    headings.forEach((heading, column) => {
      const kind = heading.dataset.sort;
      const label = heading.textContent.trim();
      const button = make("button", { type: "button" });
      button.append(...heading.childNodes);
      heading.append(button);
      let state = 0;
      button.addEventListener("click", () => {
        const next = (state + 1) % 3;
        headings.forEach((other) => { other.removeAttribute("aria-sort"); other.reset?.(); });
        state = next;
        if (state === 0) {
          body.append(...original);
          say(`${table.caption.textContent}: in the order of the report`);
          return;
        }
        const up = kind === "high" ? state === 2 : state === 1;
        const key = (row) => {
          const cell = row.cells[column];
          if (kind === "text") return cell.textContent;
          return cell.dataset.value === "" ? null : Number(cell.dataset.value);
        };
        const sorted = [...original].sort((one, other) => {
          const a = key(one), b = key(other);
          if (a === null || b === null) return (a === null) - (b === null);
          const order = typeof a === "string" ? a.localeCompare(b) : a - b;
          return up ? order : -order;
        });
        body.append(...sorted);
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        say(`${table.caption.textContent}: sorted by ${label}, ${up ? "ascending" : "descending"}`);
      });
      heading.reset = () => { state = 0; };
    });
  }

  // What is wider than its place can be scrolled by keyboard.
  const reach = () => {
    for (const wide of document.querySelectorAll(".wide")) wide.tabIndex = wide.scrollWidth > wide.clientWidth ? 0 : -1;
  };
  reach();
  addEventListener("resize", reach);

  // Clips: they move when they are seen, but not for those who asked for less motion, and each has its button.
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  for (const clip of document.querySelectorAll(".clip")) {
    const moving = clip.querySelector(".moving");
    const film = moving.tagName === "VIDEO";
    const still = clip.querySelector(".still").src;
    const address = moving.src;
    const button = make("button", { type: "button" });
    let plays = false;
    const play = (wanted) => {
      plays = wanted;
      if (film) { wanted ? moving.play().catch(() => play(false)) : moving.pause(); }
      else moving.src = wanted ? address : still;
      button.textContent = wanted ? "Pause the clip" : "Play the clip";
    };
    if (film) moving.removeAttribute("controls");
    else clip.querySelector("source").remove();
    button.addEventListener("click", () => { chosen = true; play(!plays); });
    clip.append(button);
    let chosen = false;
    play(false);
    new IntersectionObserver((entries) => {
      if (!chosen && !calm.matches) play(entries[entries.length - 1].isIntersecting);
    }).observe(clip);
  }

  // In print nothing stays folded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => { each.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((each) => { each.open = false; }));

  // The picture browser.
  const browser = document.querySelector(".browser");
  const data = JSON.parse(document.getElementById("browser-data").textContent);
  if (!data.sets.some((set) => set.metrics.length)) return;
  const $ = (selector) => browser.querySelector(selector);
  const choice = Object.fromEntries([...browser.querySelectorAll("[data-choice]")].map((e) => [e.dataset.choice, e]));
  const list = $(".list"), pair = $(".pair"), slider = $(".slider"), strip = $(".strip");
  const images = { left: $("img.left"), right: $("img.right") };
  const status = $("[role=status]"), values = $(".values");
  const SOURCE = data.source;
  let set, order = [], current = 0;

  const label = (method) => method === SOURCE ? "source" : set.methods.find((each) => each.key === method).label;
  const metric = () => set.metrics.find((each) => each.key === choice.metric.value);
  const value = (method, index, key = choice.metric.value) => method === SOURCE ? null : set.values[key][method][index];
  const print = (number, of, sign = false) =>
    number === null ? "—" : (sign && number > 0 ? "+" : "") + number.toFixed(of.decimals).replace("-", "−");
  const address = (name, method) => {
    const found = set.pictures[name]?.[method];
    return found?.startsWith("#") ? document.getElementById(found.slice(1)).src : found;
  };
  const fill = (select, entries, wanted) => {
    select.replaceChildren(...entries.map(([key, text]) => make("option", { value: key, textContent: text })));
    if (entries.some(([key]) => key === wanted)) select.value = wanted;
  };

  // How far apart two sides are. The source has no value: a method is as far from it as its value is bad.
  const score = (index) => {
    const [left, right] = [value(choice.left.value, index), value(choice.right.value, index)];
    const better = metric().higher ? 1 : -1;
    const by = choice.order.value;
    if (by === "left") return left === null ? null : -better * left;
    if (by === "right") return right === null ? null : -better * right;
    if (left === null && right === null) return null;
    if (left === null || right === null) return [choice.left.value, choice.right.value].includes(SOURCE) ? -better * (left ?? right) : null;
    if (by === "gain") return better * (right - left);
    if (by === "loss") return better * (left - right);
    return Math.abs(right - left);
  };

  const sort = () => {
    const scores = set.names.map((_, index) => score(index));
    order = set.names.map((_, index) => index);
    if (choice.only.checked) order = order.filter((index) => set.pictures[set.names[index]]);
    if (choice.order.value !== "name") {
      order.sort((a, b) => {
        if (scores[a] === null || scores[b] === null) return (scores[a] === null) - (scores[b] === null) || a - b;
        return scores[b] - scores[a] || a - b;
      });
    }
    const sides = ["left", "right"].map((side) => label(choice[side].value));
    browser.querySelector("[data-head=left]").textContent = sides[0];
    browser.querySelector("[data-head=right]").textContent = sides[1];
    list.replaceChildren(...order.map((index, place) => {
      const name = set.names[index];
      const [left, right] = [value(choice.left.value, index), value(choice.right.value, index)];
      const apart = left === null || right === null ? null : Math.abs(right - left);
      const option = make("div", { className: "option", id: `option-${place}` },
        make("span", { textContent: name, title: name }),
        ...[left, right, apart].map((number) => make("span", { textContent: print(number, metric()) })));
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      const has = Boolean(set.pictures[name]);
      option.classList.toggle("elsewhere", !has);
      option.setAttribute("aria-label", `${place + 1}: ${name}; ${sides[0]} ${print(left, metric())}, ${sides[1]} ${print(right, metric())}${has ? "" : "; picture not in this page"}`);
      option.addEventListener("click", () => { show(place); list.focus({ preventScroll: true }); });
      return option;
    }));
    const first = order.findIndex((index) => {
      const held = set.pictures[set.names[index]];
      return held?.[choice.left.value] && held?.[choice.right.value];
    });
    list.scrollTop = 0;
    if (order.length) show(Math.max(0, first), false);
  };

  const show = (place, scroll = true) => {
    current = Math.min(order.length - 1, Math.max(0, place));
    const index = order[current], name = set.names[index];
    for (const option of list.querySelectorAll("[aria-selected=true]")) option.setAttribute("aria-selected", "false");
    const option = list.children[current];
    option.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", option.id);
    if (scroll) {
      const top = option.offsetTop, bottom = top + option.offsetHeight;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
    }
    const missing = [];
    for (const side of ["left", "right"]) {
      const method = choice[side].value, found = address(name, method);
      if (found) images[side].src = found; else { images[side].removeAttribute("src"); missing.push(label(method)); }
      images[side].hidden = !found;
      images[side].alt = found ? `${name}, ${label(method)}` : "";
      browser.querySelector(`.tag-${side}`).textContent = label(method);
    }
    const none = $(".none");
    none.hidden = missing.length === 0;
    none.textContent = set.pictures[name]
      ? `${missing.join(" and ")} ${missing.length > 1 ? "have" : "has"} no picture of ${name}: not run on it, or it failed.`
      : `${name} is not among the pictures of this page. Its values are measured and listed; the files lie in data/test/${set.key} and data/inversions.`;
    slide();
    $(".place").textContent = `${current + 1} of ${order.length}`;
    numbers(index, name);
    thumbnails(index, name);
  };

  const numbers = (index, name) => {
    const sides = ["left", "right"].map((side) => choice[side].value);
    values.caption.textContent = name;
    const head = make("tr", {}, make("td"), ...sides.map((method) => make("th", { scope: "col", textContent: label(method) })),
      make("th", { scope: "col", textContent: "right − left" }));
    values.tHead.replaceChildren(head);
    const spoken = [];
    values.tBodies[0].replaceChildren(...set.metrics.map((each) => {
      const [left, right] = sides.map((method) => value(method, index, each.key));
      const both = left !== null && right !== null;
      const cells = [left, right].map((number, side) => make("td", {
        textContent: print(number, each),
        className: both && left !== right && (side === 1) === ((right > left) === each.higher) ? "better" : "",
      }));
      if (each.key === choice.metric.value) {
        spoken.push(`${label(sides[0])} ${each.label} ${print(left, each)}`, `${label(sides[1])} ${print(right, each)}`);
      }
      return make("tr", {}, make("th", { scope: "row", textContent: `${each.label} ${each.higher ? "↑" : "↓"}` }), ...cells,
        make("td", { textContent: both ? print(right - left, each, true) : "—" }));
    }));
    status.textContent = `Picture ${name}, ${current + 1} of ${order.length}: ${spoken.join(", ")}`;
  };

  const thumbnails = (index, name) => {
    const held = set.pictures[name] ?? {};
    const keys = [SOURCE, ...set.methods.map((each) => each.key)].filter((key) => held[key]);
    strip.hidden = keys.length === 0;
    strip.replaceChildren(...keys.map((key) => {
      const number = value(key, index);
      const text = number === null ? "" : `${metric().label} ${print(number, metric())}`;
      const button = make("button", { type: "button" },
        make("img", { src: address(name, key), alt: "" }), label(key), make("i", { textContent: text }));
      button.setAttribute("aria-pressed", String(key === choice.right.value));
      button.addEventListener("click", () => {
        choice.right.value = key;
        const kept = set.names[order[current]];
        sort();
        show(order.findIndex((each) => set.names[each] === kept));
        strip.querySelector("[aria-pressed=true]")?.focus({ preventScroll: true });
      });
      return button;
    }));
  };

  const slide = () => {
    const at = Number(slider.value);
    pair.style.setProperty("--at", `${at}%`);
    slider.setAttribute("aria-valuetext", `${at} % ${label(choice.left.value)}, ${100 - at} % ${label(choice.right.value)}`);
  };

  const choose = (key) => {
    set = data.sets.find((each) => each.key === key);
    const sides = [[SOURCE, "source"], ...set.methods.map((each) => [each.key, each.label])];
    fill(choice.left, sides, choice.left.value || data.pair[0]);
    fill(choice.right, sides, choice.right.value || data.pair[1]);
    fill(choice.metric, set.metrics.map((each) => [each.key, each.label]), choice.metric.value || set.by);
    sort();
  };

  fill(choice.set, data.sets.map((each) => [each.key, each.title]), data.sets[0].key);
  choice.set.addEventListener("change", () => choose(choice.set.value));
  for (const key of ["left", "right", "metric", "order", "only"]) choice[key].addEventListener("change", sort);
  slider.addEventListener("input", slide);
  for (const button of browser.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => show(current + Number(button.dataset.step)));
  }
  list.addEventListener("keydown", (event) => {
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -order.length, End: order.length };
    if (!(event.key in moves)) return;
    event.preventDefault();
    show(current + moves[event.key]);
  });
  browser.hidden = false;
  choose(data.sets[0].key);
})();
