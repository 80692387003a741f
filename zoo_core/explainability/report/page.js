"use strict";
const COLOURS = /* colours */ [];
const root = document.documentElement;

// What is shown of all pictures.

const opacity = document.querySelector("#opacity");
const showOpacity = () => {
  root.style.setProperty("--opacity", opacity.value / 100);
  document.querySelector("output[for=opacity]").value = `${opacity.value} %`;
};
opacity.addEventListener("input", showOpacity);
showOpacity();

for (const box of document.querySelectorAll("[data-shows]")) {
  const show = () => {
    for (const one of document.querySelectorAll("[data-layer]")) {
      if (one.dataset.layer === box.dataset.shows) one.hidden = !box.checked;
    }
  };
  box.addEventListener("change", show);
  show();
}
document.querySelector("form.bar").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "o" && !event.ctrlKey && !event.metaKey && !event.altKey) {
    document.body.classList.toggle("bare");
  }
});

// Attention.

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Where each layer's bytes begin, and how many rows and keys they have.
function lay_out(layers, data) {
  let begin = 0;
  for (const layer of layers) {
    layer.keys = layer.cells[0] * layer.cells[1];
    layer.rows = layer.names.length + (layer.queries ? layer.queries[0] * layer.queries[1] : 0);
    layer.data = data.subarray(begin, begin += (layer.heads + 1) * layer.rows * (layer.keys + 1));
  }
}

function draw(canvas, layer, head, row) {
  const [height, width] = layer.cells;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const begin = (head * layer.rows + row) * (layer.keys + 1);
  for (let key = 0; key < layer.keys; key++) {
    image.data.set(COLOURS[Math.round(layer.data[begin + key] * 255 / 31)], 4 * key);
  }
  context.putImageData(image, 0, 0);
}

function button(text, parent, press) {
  const made = document.createElement("button");
  made.type = "button";
  made.append(text);
  made.addEventListener("click", press);
  parent.append(made);
  return made;
}

function look(section, layers) {
  const find = (selector) => section.querySelector(selector);
  const patches = find(".patches"), canvas = find(".patches canvas"), cursor = find(".cursor");
  const choice = find(".layer-choice"), heads = find(".heads"), queries = find(".queries");
  // A patch is kept as its place in the picture, from 0 to 1, which is the same in all layers.
  const state = { layer: +choice.value, head: 0, name: 0, patch: null };

  const place = (layer) => layer.queries.map(
    (count, axis) => Math.max(0, Math.min(count - 1, Math.floor(state.patch[axis] * count))));
  const chosen_row = (layer) => {
    if (state.patch === null || !layer.queries) return Math.min(state.name, layer.names.length - 1);
    const [row, column] = place(layer);
    return layer.names.length + row * layer.queries[1] + column;
  };

  function show() {
    const layer = layers[state.layer], row = chosen_row(layer);
    state.head = Math.min(state.head, layer.heads);
    find(".layer-name").value = `${state.layer + 1} of ${layers.length}: ${layer.name}`;
    choice.setAttribute("aria-valuetext", layer.name);
    draw(canvas, layer, state.head, row);
    while (heads.children.length > layer.heads + 1) heads.lastChild.remove();
    while (heads.children.length <= layer.heads) {
      const number = heads.children.length;
      const made = button(document.createElement("canvas"), heads, () => {
        state.head = number;
        show();
      });
      made.append(number ? `${number}` : "mean");
      made.setAttribute("aria-label", number ? `Head ${number}` : "Mean of all heads");
    }
    [...heads.children].forEach((one, number) => {
      draw(one.firstChild, layer, number, row);
      one.setAttribute("aria-pressed", number === state.head);
    });
    const named = state.patch === null || !layer.queries;
    queries.replaceChildren();
    layer.names.forEach((name, number) => {
      const made = button(name, queries, () => {
        state.patch = null;
        state.name = number;
        show();
        queries.children[number].focus();
      });
      made.setAttribute("aria-pressed", named && number === row);
    });
    cursor.hidden = named;
    let who = named ? layer.names[row].replace(/^./, (letter) => letter.toUpperCase()) : "";
    if (!named) {
      const at = place(layer);
      const [top, left] = at.map((index, axis) => 100 * index / layer.queries[axis]);
      const [high, wide] = layer.queries.map((count) => 100 / count);
      Object.assign(cursor.style, {
        top: `${top}%`, left: `${left}%`, height: `${high}%`, width: `${wide}%`,
      });
      who = `Patch in row ${at[0] + 1}, column ${at[1] + 1}`;
    }
    const begin = (state.head * layer.rows + row) * (layer.keys + 1);
    const weights = layer.data.subarray(begin, begin + layer.keys);
    const top = weights.indexOf(Math.max(...weights));
    const [most_row, most_column] = [Math.floor(top / layer.cells[1]), top % layer.cells[1]];
    const times = 2 ** (layer.data[begin + layer.keys] / 16);
    find(".said").textContent = weights[top] === 0
      ? `${who} attends to everything alike.`
      : `${who} attends most to row ${most_row + 1}, column ${most_column + 1} of `
        + `${layer.cells.join("×")}: ${times.toPrecision(2)} times the average.`;
  }

  const pick = (event) => {
    const box = patches.getBoundingClientRect();
    state.patch = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    show();
  };
  patches.addEventListener("click", pick);
  patches.addEventListener("pointermove", (event) => {
    if (event.buttons === 1 && event.pointerType !== "touch") pick(event);
  });
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  patches.addEventListener("keydown", (event) => {
    const layer = layers[state.layer];
    if (event.key === "Escape") {
      state.patch = null;
    } else if (moves[event.key] && layer.queries) {
      const grid = layer.queries;
      const at = state.patch === null ? grid.map((count) => Math.floor(count / 2)) : place(layer)
        .map((index, axis) => index + moves[event.key][axis]);
      state.patch = at.map(
        (index, axis) => (Math.max(0, Math.min(grid[axis] - 1, index)) + 0.5) / grid[axis]);
    } else {
      return;
    }
    event.preventDefault();
    show();
  });
  choice.addEventListener("input", () => {
    state.layer = +choice.value;
    show();
  });
  // A class token says more than the mean of all, where there is one.
  state.name = layers[state.layer].names.length === 2 ? 1 : 0;
  show();
}

for (const section of document.querySelectorAll(".attention")) {
  const source = section.querySelector("script");
  if (!source) continue;
  const { layers, data } = JSON.parse(source.textContent);
  unpack(data).then((bytes) => {
    lay_out(layers, bytes);
    look(section, layers);
    section.dataset.ready = "";
  }, () => {
    section.querySelector(".said").textContent = "This browser is too old to show attention.";
  });
}

// The table of scores.

for (const table of document.querySelectorAll(".scores table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const first = head.firstChild.dataset.order === "descending" ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach((one) => one.setAttribute("aria-sort", one === head ? order : "none"));
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value;
    const text = (row) => row.cells[column].textContent;
    body.append(...[...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === undefined && y === undefined) return sign * text(a).localeCompare(text(b));
      if (x === undefined || y === undefined) return x === undefined ? 1 : -1;
      return sign * (x - y);
    }));
  }));
}
