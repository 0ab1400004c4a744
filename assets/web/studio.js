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
    const open = document.querySelector('[id$="-inside"] button.label-wrap, [id$="-inside"] > button');
    return shown(open) ? open : null;
  }

  document.addEventListener('click', (event) => {
    const target = event.target.closest && event.target.closest('#large-type, .copy, [id$="-inside"] button');
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
      setTimeout(() => remember('studio-inside', target.classList.contains('open') ? '1' : ''), 50);
    }
  });

  document.addEventListener('keydown', (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === 'Enter') {
      const ask = [...document.querySelectorAll('[id$="-ask"]')].find(shown);
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

  function start() {
    if (!$('#chip-device')) { setTimeout(start, 150); return; }
    applyLarge(recall('studio-large-type') === '1');
    refresh();
    setInterval(refresh, 4000);
    document.addEventListener('visibilitychange', refresh);
    const reopen = () => {
      const button = insideButton();
      if (!button) { setTimeout(reopen, 200); return; }
      if (recall('studio-inside') === '1' && !button.classList.contains('open')) button.click();
    };
    reopen();
  }
  start();
})();
