// Draws tokens coloured by probability, and for the chosen one its alternatives as bars.
// In: props.value = {tokens: [{id, text, p, alts: [[id, text, probability, kept]]}], prompt: [[id, text]], can_branch}
// Out: trigger('select', {prefix: [ids]}) when somebody branches.
const root = element.querySelector('.token-view') || element;
let chosen = -1;
let tab = 'answer';

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function visible(text) {
  if (text === '') return '\u2205';
  return text.replace(/ /g, '\u00b7').replace(/\n/g, '\u21b5').replace(/\t/g, '\u21e5');
}

function percent(p) {
  const value = p * 100;
  return (value >= 99.95 ? '100' : value >= 10 ? value.toFixed(0) : value >= 0.1 ? value.toFixed(1) : '<0.1') + ' %';
}

function band(p) {
  return p >= 0.9 ? 4 : p >= 0.6 ? 3 : p >= 0.3 ? 2 : p >= 0.1 ? 1 : 0;
}

function drawBars(token, index, data, prefix) {
  const panel = make('div', 'bars');
  panel.setAttribute('role', 'region');
  panel.setAttribute('aria-label', 'Alternatives');
  panel.appendChild(make('p', 'bars-title', 'What could have stood here, and how likely the model thought it'));
  for (const [id, text, p, kept] of token.alts) {
    const row = make('div', 'bar-row' + (kept > 0 ? '' : ' cut') + (id === token.id && text === token.text ? ' picked' : ''));
    row.appendChild(make('code', 'bar-token', visible(text)));
    const track = make('div', 'bar-track');
    const raw = make('div', 'bar-raw');
    raw.style.width = Math.max(0.4, p * 100) + '%';
    const left = make('div', 'bar-kept');
    left.style.width = Math.max(0, kept * 100) + '%';
    track.append(raw, left);
    row.appendChild(track);
    const after = kept > 0 ? 'drawn with ' + percent(kept) : 'cut away';
    row.appendChild(make('span', 'bar-number', percent(p)));
    row.appendChild(make('span', 'bar-after', after));
    if (data.can_branch && id >= 0 && id !== token.id) {
      const button = make('button', 'branch', 'Branch here');
      button.type = 'button';
      button.setAttribute('aria-label', 'Continue the answer with ' + text.trim() + ' instead');
      button.addEventListener('click', () => trigger('select', { prefix: [...prefix, id] }));
      row.appendChild(button);
    } else {
      row.appendChild(make('span', 'branch-none', id === token.id ? 'chosen' : ''));
    }
    panel.appendChild(row);
  }
  panel.appendChild(make('p', 'bars-note',
    'Upper bar: the model\u2019s own probability. Lower bar: what temperature, top-k, top-p and min-p left of it.'));
  return panel;
}

// Drawing makes every node anew; who came here with the keyboard stays where they were.
function focusOn(selector, index) {
  const node = root.querySelectorAll(selector)[index];
  if (node) node.focus({ preventScroll: true });
}

function draw() {
  const data = props.value || { tokens: [], prompt: [] };
  const tokens = data.tokens || [];
  if (chosen >= tokens.length) chosen = -1;
  root.replaceChildren();
  const tabs = make('div', 'token-tabs');
  tabs.setAttribute('role', 'tablist');
  for (const [key, label, count] of [['answer', 'Answer', tokens.length], ['prompt', 'Prompt', (data.prompt || []).length]]) {
    const button = make('button', 'token-tab' + (tab === key ? ' active' : ''), label + ' (' + count + ' tokens)');
    button.type = 'button';
    button.setAttribute('role', 'tab');
    button.setAttribute('aria-selected', String(tab === key));
    button.addEventListener('click', () => { tab = key; draw(); focusOn('.token-tab.active', 0); });
    tabs.appendChild(button);
  }
  root.appendChild(tabs);
  const line = make('div', 'token-line');
  if (tab === 'prompt') {
    for (const [id, text] of data.prompt || []) {
      const span = make('span', 'token prompt-token', visible(text));
      span.title = 'token ' + id;
      line.appendChild(span);
    }
    root.appendChild(line);
    root.appendChild(make('p', 'bars-note', 'This is all the model sees: text cut into tokens, each with a number. Tokens in <| |> mark who speaks.'));
    return;
  }
  if (!tokens.length) {
    root.appendChild(make('p', 'bars-note', 'Ask something: each token of the answer appears here, coloured by how sure the model was.'));
    return;
  }
  tokens.forEach((token, index) => {
    const has = (token.alts || []).length > 0;
    const node = make(has ? 'button' : 'span', 'token p' + band(token.p) + (index === chosen ? ' chosen' : ''), visible(token.text));
    if (has) {
      node.type = 'button';
      node.setAttribute('aria-pressed', String(index === chosen));
      node.setAttribute('aria-label', token.text.trim() + ', ' + percent(token.p));
      node.addEventListener('click', () => { chosen = chosen === index ? -1 : index; draw(); focusOn('.token-line .token', index); });
    }
    node.title = percent(token.p);
    line.appendChild(node);
  });
  root.appendChild(line);
  const legend = make('div', 'token-legend');
  legend.appendChild(make('span', '', 'Sure of it:'));
  for (const [i, label] of [[4, '90 % and up'], [3, '60'], [2, '30'], [1, '10'], [0, 'below 10 %']])
    legend.appendChild(make('span', 'token p' + i, label));
  root.appendChild(legend);
  if (chosen >= 0 && (tokens[chosen].alts || []).length) {
    const prefix = tokens.slice(0, chosen).map((t) => t.id);
    root.appendChild(drawBars(tokens[chosen], chosen, data, prefix));
  } else if ((tokens[0].alts || []).length) {
    root.appendChild(make('p', 'bars-note', 'Click a token to see what else it might have been.'));
  }
}

watch('value', () => { draw(); });
draw();
