// Shows what the model can draw before the first picture, then the picture growing.
// In: props.value = {phase: 'hidden'} | {phase: 'empty', title, lines, made: [{src, text}]}
//   | {phase: 'working', status, step, total, images: [address]}
// Out: trigger('select', {made: index}).
const root = element.querySelector('.stage-view') || element;
let parts = null; // kept while one job runs, so that nothing flickers

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function drawEmpty(data) {
  const box = make('div', 'stage-empty');
  box.appendChild(make('h2', '', data.title || ''));
  for (const line of data.lines || []) box.appendChild(make('p', '', line));
  if ((data.made || []).length) {
    box.appendChild(make('p', 'stage-label', 'Made earlier with this model. A click paints it again:'));
    const row = make('div', 'stage-made');
    data.made.forEach((one, index) => {
      const button = make('button');
      button.type = 'button';
      const image = make('img');
      image.src = one.src;
      image.alt = '';
      button.append(image, make('span', '', one.text));
      button.addEventListener('click', () => trigger('select', { made: index }));
      row.appendChild(button);
    });
    box.appendChild(row);
  }
  root.appendChild(box);
}

function drawWorking(data) {
  if (!parts) {
    root.replaceChildren();
    const bar = make('div', 'stage-bar');
    const status = make('span', 'stage-status');
    status.setAttribute('role', 'status');
    const progress = make('progress');
    progress.setAttribute('aria-label', 'Progress');
    bar.append(status, progress);
    const pictures = make('div', 'stage-pictures');
    root.append(bar, pictures);
    parts = { status, progress, pictures };
  }
  parts.status.textContent = data.status || '';
  if (data.total > 0) {
    parts.progress.max = data.total;
    parts.progress.value = data.step;
  } else parts.progress.removeAttribute('value');
  const images = data.images || [];
  parts.pictures.classList.toggle('one', images.length < 2);
  if (!images.length) {
    if (!parts.pictures.querySelector('.stage-blank')) parts.pictures.replaceChildren(make('div', 'stage-blank'));
    return;
  }
  const shown = [...parts.pictures.querySelectorAll('img')];
  if (shown.length !== images.length) {
    parts.pictures.replaceChildren(...images.map((_, i) => {
      const image = make('img');
      image.alt = 'Preview ' + (i + 1);
      return image;
    }));
  }
  parts.pictures.querySelectorAll('img').forEach((image, i) => { image.src = images[i]; image.dataset.step = data.step; });
}

function draw() {
  const data = props.value || {};
  if (data.phase === 'working') { drawWorking(data); return; }
  parts = null;
  root.replaceChildren();
  if (data.phase === 'empty') drawEmpty(data);
}

watch('value', () => { draw(); });
draw();
