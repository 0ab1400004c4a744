// Page-wide behaviour: header chips, large type, keyboard, copy buttons. Asks nobody but this server.
(() => {
  const $ = (selector) => document.querySelector(selector);
  const shown = (node) => node && node.offsetParent !== null;

  async function refresh() {
    if (document.hidden || !$('#chip-device')) return;
    try {
      const response = await fetch('studio/state', { cache: 'no-store' });
      const now = await response.json();
      if (now.device) {
        $('#chip-device').textContent = now.device;
        $('#chip-device').title = now.reason || '';
      }
      if (now.model && $('#footer-model')) $('#footer-model').textContent = now.model;
      const ahead = now.running + now.waiting;
      $('#chip-load').textContent = ahead === 0 ? 'free now' : ahead + ' at work, about ' + Math.max(1, now.wait_s) + ' s';
      $('#chip-load').classList.toggle('busy', ahead > 0);
    } catch (error) {
      $('#chip-load').textContent = 'no connection';
    }
  }

  function applyLarge(isLarge) {
    document.documentElement.classList.toggle('large-type', isLarge);
    const button = $('#large-type');
    if (button) button.setAttribute('aria-pressed', String(isLarge));
  }

  function remember(key, value) {
    try { localStorage.setItem(key, value); } catch (error) { /* private mode: not remembered */ }
  }

  function recall(key) {
    try { return localStorage.getItem(key); } catch (error) { return null; }
  }

  function insideButton() {
    const all = [...document.querySelectorAll('[id$="-inside"] > button.label-wrap, [id$="-inside"] .fold-head')];
    return all.find(shown) || null;
  }

  const isOpen = (button) => button.classList.contains('open') || button.getAttribute('aria-expanded') === 'true';

  function setFold(head, isOpened) {
    head.setAttribute('aria-expanded', String(isOpened));
    head.closest('.fold').toggleAttribute('data-open', isOpened);
  }

  function unfold(id) {
    const head = document.querySelector('#' + id + ' .fold-head');
    if (head) setFold(head, true);
  }

  // What "See inside" was left as holds for every tab, also for one that is built when it is first looked at.
  const seen = new WeakSet();
  function restoreInside() {
    const button = insideButton();
    if (!button || seen.has(button)) return;
    seen.add(button);
    if (recall('studio-inside') === '1' && !isOpen(button)) button.click();
  }

  // What a button shows lies in a folded part of the page.
  const UNFOLDS = { 'image-use-start': 'image-start', 'image-guidances': 'image-compare' };

  document.addEventListener('click', (event) => {
    setTimeout(restoreInside, 400);
    const pressed = event.target.closest && event.target.closest('button');
    if (pressed && UNFOLDS[pressed.id]) unfold(UNFOLDS[pressed.id]);
    if (pressed && pressed.classList.contains('fold-head')) setFold(pressed, !isOpen(pressed));
    const target = event.target.closest && event.target.closest('#large-type, .copy, [id$="-inside"] > button, [id$="-inside"] .fold-head');
    if (!target) return;
    if (target.id === 'large-type') {
      const isLarge = !document.documentElement.classList.contains('large-type');
      applyLarge(isLarge);
      remember('studio-large-type', isLarge ? '1' : '');
    } else if (target.classList.contains('copy')) {
      if (navigator.clipboard) navigator.clipboard.writeText(target.dataset.copy);
      const before = target.textContent;
      target.textContent = 'copied';
      setTimeout(() => { target.textContent = before; }, 900);
    } else if (target === insideButton()) {
      setTimeout(() => remember('studio-inside', isOpen(target) ? '1' : ''), 50);
    }
  });

  document.addEventListener('keydown', (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === 'Enter') {
      const ask = [...document.querySelectorAll('[id$="-ask"], [id$="-paint"]')].find(shown);
      if (ask) { event.preventDefault(); ask.click(); }
      return;
    }
    if (event.key === 'Escape') {
      const stop = [...document.querySelectorAll('[id$="-stop"]')].find(shown);
      if (stop) { event.preventDefault(); stop.click(); }
      return;
    }
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName) || document.activeElement.isContentEditable;
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'i' && insideButton()) insideButton().click();
    if (/^[1-4]$/.test(event.key) && shown($('#presenter-controls'))) {
      const tab = document.querySelectorAll('#studio-tabs [role="tab"]')[Number(event.key) - 1];
      if (tab) tab.click();
    }
  });

  // A picture dropped anywhere on the image tab goes where the drop area inside it would take it.
  const dropTab = (event) => {
    const tab = event.target.closest && event.target.closest('#tab-image');
    const holdsFile = event.dataTransfer && [...event.dataTransfer.types].includes('Files');
    return tab && holdsFile && !event.target.closest('#image-loras') ? tab : null;
  };
  document.addEventListener('dragover', (event) => {
    const tab = dropTab(event);
    if (!tab) return;
    event.preventDefault();
    tab.classList.add('drop-here');
  }, true);
  document.addEventListener('dragleave', (event) => {
    const tab = dropTab(event);
    if (tab && !tab.contains(event.relatedTarget)) tab.classList.remove('drop-here');
  }, true);
  document.addEventListener('drop', (event) => {
    const tab = dropTab(event);
    if (!tab) return;
    tab.classList.remove('drop-here');
    const input = tab.querySelector('#image-drop input[type="file"]');
    const files = event.dataTransfer.files;
    if (!input || !files.length) return;
    event.preventDefault();
    event.stopPropagation();
    unfold('image-start');
    const one = new DataTransfer();
    one.items.add(files[0]);
    input.files = one.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  }, true);

  function start() {
    if (!$('#chip-device')) { setTimeout(start, 150); return; }
    applyLarge(recall('studio-large-type') === '1');
    refresh();
    setInterval(refresh, 4000);
    document.addEventListener('visibilitychange', refresh);
    const reopen = () => {
      if (!insideButton()) { setTimeout(reopen, 200); return; }
      restoreInside();
    };
    reopen();
  }
  start();
})();
