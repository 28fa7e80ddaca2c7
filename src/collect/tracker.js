/*! affluent tracker: this page's views and clicks, without cookies; docs/collect.md */
// Nothing outlives the tab, nothing is done under do-not-track, and no failure here reaches the page.
// Served without indentation and lines that are comments: no text here may go over lines.
(() => {
  'use strict';
  const me = document.currentScript, nav = navigator;
  if (!me || nav.doNotTrack === '1' || nav.globalPrivacyControl) return;
  const MOST = 50; // events in a request
  const calm = f => (...a) => { try { return f(...a); } catch (_) { return null; } };
  const recall = calm(key => sessionStorage.getItem('affluent.' + key));
  const keep = calm((key, text) => sessionStorage.setItem('affluent.' + key, text));
  const uuid = () => {
    const b = crypto.getRandomValues(new Uint8Array(16));
    b[6] = b[6] & 15 | 64;
    b[8] = b[8] & 63 | 128;
    return [...b].map((x, i) => (/^([468]|10)$/.test(i) ? '-' : '') + (x + 256).toString(16).slice(1)).join('');
  };
  const here = () => location.pathname.slice(0, 200);
  let url, session, page, queue = [], timer, busy, wait = 1000;

  const device = () => !matchMedia('(pointer: coarse)').matches ? 'desktop'
    : Math.min(innerWidth, innerHeight) < 600 ? 'mobile' : 'tablet';
  const push = (element, referrer) => {
    queue.push({ event_id: uuid(), session_id: session, page, referrer, element,
      device: device(), region: me.dataset.region || null });
    queue = queue.slice(-500);
    later();
  };
  const later = () => { if (!timer && !busy) timer = setTimeout(send, wait); };

  // Again and again until it is acknowledged, while the page lives.
  const send = calm(() => {
    timer = 0;
    const batch = queue.splice(0, MOST);
    if (!batch[0]) return;
    busy = 1;
    fetch(url, { method: 'POST', body: JSON.stringify(batch), keepalive: true, credentials: 'omit' })
      .then(({ status: s }) => { if (s > 499 || s === 429 || s === 408) throw s; wait = 1000; })
      // Without an answer it may be the page that goes, whose requests arrive all the same: only one that stays asks again.
      .catch(s => new Promise(on => setTimeout(on, s > 0 ? 0 : wait)).then(() => {
        queue.unshift(...batch);
        wait = Math.min(2 * wait, 60000);
      }))
      .then(() => { busy = 0; if (queue[0]) later(); });
  });
  const leave = () => {
    while (queue[0] && nav.sendBeacon(url, JSON.stringify(queue.slice(0, MOST)))) queue.splice(0, MOST);
  };
  const view = () => {
    const before = recall('page') || page || null;
    keep('page', page = here());
    push(null, before);
  };
  const moved = calm(() => { if (here() !== page) view(); });

  // Never its text, which may be about the visitor.
  const name = el => el.dataset.track || el.localName + (el.id ? '#' + el.id
    : el.name ? `[${el.name}]`
    : el.href ? ' ' + (el.origin === location.origin ? el.pathname : el.host || el.protocol)
    : el.classList[0] ? '.' + el.classList[0] : '');
  const click = ({ target }) => {
    const el = target.closest('[data-track]') || target.closest('a[href],button,[role=button],[type=submit]');
    if (el) push(name(el).slice(0, 100), page);
  };
  const on = (type, f) => addEventListener(type, calm(f), true);

  calm(() => {
    url = me.dataset.collect || new URL('collect', me.src).href;
    keep('session', session = recall('session') || uuid());
    view();
    const { pushState } = history;
    history.pushState = function (...a) {
      pushState.apply(this, a);
      moved();
    };
    on('popstate', moved);
    on('pageshow', e => e.persisted && view());
    on('click', click);
    on('pagehide', leave);
    on('visibilitychange', () => document.hidden && leave());
  })();
})();
