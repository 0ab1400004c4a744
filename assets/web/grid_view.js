// Two settings crossed. In: props.value = {x: {title, values}, y: {title, values}, cells: {'column,row': address}, status}
// Out: trigger('select', {x: column, y: row}).
const root = element.querySelector('.grid-view') || element;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function draw() {
  const data = props.value || {};
  root.replaceChildren();
  if (!data.x || !data.x.values.length) return;
  const status = make('p', 'grid-note', data.status || '');
  status.setAttribute('role', 'status');
  root.appendChild(status);
  const table = make('table'), head = make('tr');
  head.appendChild(make('th', 'side', (data.y.title ? data.y.title + ' \u2193 ' : '') + data.x.title + ' \u2192'));
  data.x.values.forEach((value) => { const cell = make('th', '', value); cell.scope = 'col'; head.appendChild(cell); });
  table.appendChild(head);
  data.y.values.forEach((down, row) => {
    const line = make('tr'), side = make('th', 'side', down);
    side.scope = 'row';
    line.appendChild(side);
    data.x.values.forEach((across, column) => {
      const cell = make('td'), source = data.cells[column + ',' + row];
      if (source) {
        const button = make('button', 'grid-cell'), image = make('img');
        button.type = 'button';
        image.src = source;
        image.alt = data.x.title + ' ' + across + ', ' + data.y.title + ' ' + down;
        button.title = 'Take these settings';
        button.appendChild(image);
        button.addEventListener('click', () => trigger('select', { x: column, y: row }));
        cell.appendChild(button);
      } else cell.appendChild(make('div', 'grid-cell'));
      line.appendChild(cell);
    });
    table.appendChild(line);
  });
  root.append(table, make('p', 'grid-note', 'A click on a picture shows it above with its settings.'));
}

watch('value', () => { draw(); });
draw();
