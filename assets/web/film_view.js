// The denoising steps of a run as a strip, one of them large, the noise left as a curve, guidance's two halves.
// In: props.value = {frames: [{src, step, sigma, without, with}], total, guidance}
const root = element.querySelector('.film-view') || element;
const SVG = 'http://www.w3.org/2000/svg';
let at = -1;          // the frame on show; -1 follows the newest
let playing = null;
let scale = null;     // guidance of the mixed picture; null is the run's own
let last = 0;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function drawn(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function slider(label, min, max, step, value, onInput) {
  const input = make('input');
  Object.assign(input, { type: 'range', min, max, step, value });
  input.setAttribute('aria-label', label);
  input.addEventListener('input', () => onInput(Number(input.value)));
  return input;
}

function chart(frames, total, index) {
  const width = 420, height = 150, left = 46, bottom = 22, top = 8;
  const svg = drawn('svg', { viewBox: '0 0 ' + width + ' ' + height, class: 'film-chart', role: 'img' });
  svg.setAttribute('aria-label', 'Noise left after each step');
  const x = (i) => left + (total > 1 ? i / (total - 1) : 0.5) * (width - left - 10);
  const y = (sigma) => top + (1 - sigma) * (height - top - bottom);
  svg.appendChild(drawn('line', { x1: left, x2: width - 10, y1: y(0), y2: y(0), stroke: 'currentColor', 'stroke-opacity': 0.35 }));
  svg.appendChild(drawn('line', { x1: left, x2: width - 10, y1: y(1), y2: y(1), stroke: 'currentColor', 'stroke-opacity': 0.15 }));
  for (const [text, tx, ty, anchor] of [['100 %', left - 4, y(1) + 4, 'end'], ['0', left - 4, y(0) + 4, 'end'],
    ['step 1', x(0), height - 6, 'start'], ['step ' + total, x(total - 1), height - 6, 'end']]) {
    const label = drawn('text', { x: tx, y: ty, 'text-anchor': anchor });
    label.textContent = text;
    svg.appendChild(label);
  }
  const points = frames.map((f) => x(f.step - 1) + ',' + y(f.sigma)).join(' ');
  svg.appendChild(drawn('polyline', { points, fill: 'none', stroke: 'var(--studio-accent)', 'stroke-width': 2.5 }));
  frames.forEach((f, i) => svg.appendChild(drawn('circle', {
    cx: x(f.step - 1), cy: y(f.sigma), r: i === index ? 6 : 3, fill: i === index ? 'var(--body-text-color)' : 'var(--studio-accent)' })));
  return svg;
}

function figure(node, caption) {
  const box = make('figure');
  box.append(node, make('figcaption', '', caption));
  return box;
}

function picture(src, alt) {
  const image = make('img');
  image.src = src;
  image.alt = alt;
  return image;
}

// What guidance does, on the two pictures: away from the one without the prompt, through the one with it.
function mix(canvas, frame, guidance) {
  const pair = [frame.without, frame.with].map((src) => { const image = new Image(); image.src = src; return image; });
  Promise.all(pair.map((image) => image.decode())).then(() => {
    const width = canvas.width = pair[0].naturalWidth, height = canvas.height = pair[0].naturalHeight;
    const [a, b] = pair.map((image) => {
      const sheet = make('canvas');
      sheet.width = width; sheet.height = height;
      const context = sheet.getContext('2d', { willReadFrequently: true });
      context.drawImage(image, 0, 0, width, height);
      return context.getImageData(0, 0, width, height);
    });
    const out = new ImageData(width, height);
    for (let i = 0; i < out.data.length; i++)
      out.data[i] = i % 4 === 3 ? 255 : a.data[i] + guidance * (b.data[i] - a.data[i]);
    canvas.getContext('2d').putImageData(out, 0, 0);
  }).catch(() => {});
}

function drawHalves(frame, guidance) {
  const box = make('div', 'film-guidance');
  box.appendChild(make('p', 'film-title', 'Guidance: each step is computed twice'));
  const value = scale === null ? guidance : scale;
  const canvas = make('canvas');
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', 'Both mixed by guidance');
  const halves = make('div', 'film-halves');
  const caption = () => 'mixed at guidance ' + (scale === null ? guidance : scale).toFixed(1);
  const mixed = figure(canvas, caption());
  halves.append(
    figure(picture(frame.without, 'Prediction without the prompt'), 'without the prompt'),
    figure(picture(frame.with, 'Prediction with the prompt'), 'with the prompt'), mixed);
  const line = make('div', 'film-mix');
  const input = slider('Guidance of the mixed picture', 0, 12, 0.5, value, (v) => {
    scale = v;
    mixed.querySelector('figcaption').textContent = caption();
    mix(canvas, frame, v);
  });
  line.append(make('span', '', 'Guidance'), input);
  box.append(halves, line, make('p', 'film-note',
    'Guidance g walks from the first picture towards the second and beyond it: first + g x (second - first). The mix is made of these two small pictures, so it is close to, not the same as, what the model does with its latents.'));
  mix(canvas, frame, value);
  return box;
}

function stop() {
  if (playing) clearInterval(playing);
  playing = null;
}

function show(index, keepFocus) {
  at = index;
  draw(keepFocus);
}

function draw(focus) {
  const data = props.value || {};
  const frames = data.frames || [];
  if (frames.length < last) { at = -1; scale = null; stop(); }
  last = frames.length;
  root.replaceChildren();
  if (!frames.length) {
    root.appendChild(make('p', 'film-note', 'Paint something: every step appears here, from noise to picture.'));
    return;
  }
  const index = at < 0 || at >= frames.length ? frames.length - 1 : at;
  const frame = frames[index];
  const line = make('div', 'film-line');
  const play = make('button', 'film-play', playing ? 'Pause' : 'Play');
  play.type = 'button';
  play.addEventListener('click', () => {
    if (playing) { stop(); draw('.film-play'); return; }
    let next = 0;
    playing = setInterval(() => {
      const count = (props.value.frames || []).length;
      if (next >= count || !element.isConnected) { stop(); draw(); return; }
      show(next++);
    }, 220);
    draw('.film-play');
  });
  const scrub = slider('Step', 1, frames.length, 1, index + 1, (v) => { stop(); show(v - 1, '.film-scrub'); });
  scrub.classList.add('film-scrub');
  line.append(play, scrub, make('span', 'film-at', 'Step ' + frame.step + ' of ' + Math.max(data.total, frames.length)));
  root.appendChild(line);
  const main = make('div', 'film-main');
  const large = picture(frame.src, 'The picture as the model sees it after step ' + frame.step);
  large.className = 'film-frame';
  const side = make('div');
  side.append(make('p', 'film-note', 'Noise left after this step: ' + Math.round(frame.sigma * 100) + ' %. The picture is the model\u2019s guess of the finished one.'),
    chart(frames, Math.max(data.total, frames.length), index));
  main.append(large, side);
  root.appendChild(main);
  const strip = make('div', 'film-strip');
  frames.forEach((one, i) => {
    const button = make('button', i === index ? 'now' : '');
    button.type = 'button';
    button.setAttribute('aria-label', 'Step ' + one.step);
    button.setAttribute('aria-pressed', String(i === index));
    button.appendChild(picture(one.src, ''));
    button.addEventListener('click', () => { stop(); show(i, '.film-strip button.now'); });
    strip.appendChild(button);
  });
  root.appendChild(strip);
  const now = strip.querySelector('.now');
  strip.scrollLeft = Math.max(0, now.offsetLeft - strip.offsetLeft - strip.clientWidth / 2);
  if (frame.without && frame.with) root.appendChild(drawHalves(frame, data.guidance));
  if (focus) { const node = root.querySelector(focus); if (node) node.focus({ preventScroll: true }); }
}

watch('value', () => { draw(); });
draw();
