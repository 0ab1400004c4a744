// For the chosen word its map over the picture, in cividis: even in lightness, safe for colour-blind eyes.
// In: props.value = {picture: address, words: [{word, w, h, map: base64 of bytes}], note}
const root = element.querySelector('.word-view') || element;
const STOPS = [[0, 34, 78], [65, 77, 107], [124, 123, 120], [188, 175, 111], [254, 232, 56]];
const PLACES = [['top left', 'top', 'top right'], ['left', 'middle', 'right'], ['bottom left', 'bottom', 'bottom right']];
let chosen = -1;
let shown = '';

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function colour(value) {
  const place = Math.min(value, 0.9999) * (STOPS.length - 1), i = Math.floor(place), share = place - i;
  return STOPS[i].map((from, c) => from + share * (STOPS[i + 1][c] - from));
}

function bytes(word) {
  return Uint8Array.from(atob(word.map), (c) => c.charCodeAt(0));
}

// In words too, for those who do not see the colours: the third of the picture with the highest mean.
function place(word) {
  const values = bytes(word), sums = PLACES.map((row) => row.map(() => [0, 0]));
  for (let y = 0; y < word.h; y++) for (let x = 0; x < word.w; x++) {
    const cell = sums[Math.min(2, Math.floor(3 * y / word.h))][Math.min(2, Math.floor(3 * x / word.w))];
    cell[0] += values[y * word.w + x]; cell[1] += 1;
  }
  let best = -1, name = '';
  sums.forEach((row, y) => row.forEach(([sum, count], x) => { if (count && sum / count > best) { best = sum / count; name = PLACES[y][x]; } }));
  return { name, peak: Math.max(...values) / 255 };
}

function overlay(canvas, image, word) {
  const width = canvas.width = image.naturalWidth, height = canvas.height = image.naturalHeight;
  const context = canvas.getContext('2d');
  context.filter = 'grayscale(0.7)';
  context.drawImage(image, 0, 0);
  context.filter = 'none';
  const small = make('canvas');
  small.width = word.w; small.height = word.h;
  const sheet = new ImageData(word.w, word.h);
  bytes(word).forEach((byte, i) => sheet.data.set([...colour(byte / 255), 90 + 130 * byte / 255], 4 * i));
  small.getContext('2d').putImageData(sheet, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = 'high';
  context.drawImage(small, 0, 0, width, height);
}

function draw(focus) {
  const data = props.value || {};
  const words = data.words || [];
  if (shown !== data.picture) { chosen = -1; shown = data.picture; }
  root.replaceChildren();
  if (!words.length) {
    root.appendChild(make('p', 'word-note', data.note || 'Paint something: then a click on a word shows where it acted.'));
    return;
  }
  const line = make('div', 'word-line');
  words.forEach((word, i) => {
    const button = make('button', '', word.word);
    button.type = 'button';
    button.setAttribute('aria-pressed', String(i === chosen));
    button.addEventListener('click', () => { chosen = i === chosen ? -1 : i; draw('button[aria-pressed="true"]'); });
    line.appendChild(button);
  });
  root.appendChild(line);
  const pictures = make('div', 'word-pictures');
  const plain = make('figure'), image = make('img');
  image.src = data.picture;
  image.alt = 'The picture';
  plain.append(image, make('figcaption', '', 'the picture'));
  pictures.appendChild(plain);
  if (chosen >= 0) {
    const word = words[chosen], where = place(word), mapped = make('figure'), canvas = make('canvas', 'word-heat');
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', 'Where "' + word.word + '" acted: most at the ' + where.name);
    canvas.dataset.word = word.word;
    const said = where.peak < 0.15 ? 'acted nowhere in particular' : 'acted most at: ' + where.name;
    mapped.append(canvas, make('figcaption', '', '\u201c' + word.word + '\u201d ' + said), make('div', 'word-scale'),
      make('figcaption', '', 'little attention \u2192 much'));
    pictures.appendChild(mapped);
    image.decode().then(() => overlay(canvas, image, word)).catch(() => {});
  }
  root.appendChild(pictures);
  root.appendChild(make('p', 'word-note', chosen >= 0
    ? 'Cross-attention: how much each place of the picture looked at this word, averaged over layers and steps.'
    : 'Click a word to see which part of the picture it steered.'));
  if (focus) { const node = root.querySelector(focus); if (node) node.focus({ preventScroll: true }); }
}

watch('value', () => { draw(); });
draw();
