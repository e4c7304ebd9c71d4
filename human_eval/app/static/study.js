// Makes the pages better where a browser allows it; every page works without this file.
"use strict";
(() => {
  const find = (what, where = document) => where.querySelector(what);
  const all = (what, where = document) => [...where.querySelectorAll(what)];
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const put = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

  // The completion code.
  for (const button of all("[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.onclick = async () => {
      await navigator.clipboard.writeText(find("#" + button.dataset.copy).textContent);
      button.textContent = button.dataset.copied;
    };
  }

  // The environment check: facts about the screen, the frame rate, the line.
  const facts = find("form[data-facts]");
  if (facts) {
    const set = (name, value) => { facts.elements[name].value = Math.round(value); };
    const probe = find("[data-probe]");
    set("width", innerWidth); set("height", innerHeight); set("ratio", devicePixelRatio * 100);
    set("h264", probe.canPlayType('video/mp4; codecs="avc1.4d401f"') ? 1 : 0);
    set("reduced", calm ? 1 : 0); set("touch", navigator.maxTouchPoints > 0 ? 1 : 0);
    const begun = performance.now();
    fetch(probe.src, { cache: "reload" }).then((answer) => answer.blob())
      .then((data) => set("kbps", data.size * 8 / Math.max(1, performance.now() - begun))).catch(() => {});
    let frames = 0, from;
    const tick = (now) => {
      from ??= now;
      if (now - from >= 500) set("fps", 1000 * frames / (now - from));
      else { frames++; requestAnimationFrame(tick); }
    };
    requestAnimationFrame(tick);
    if (!calm) probe.play().catch(() => {});
  }

  // Answers wait here until the server has them: in order, one entry a page, kept in the browser if it allows that.
  const queue = new Map();
  let flushing = false, pause = 1000, timer = 0, current = null;
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith("kept-")) queue.set(key, JSON.parse(localStorage.getItem(key)));
  } catch { /* storage is off */ }
  const hold = (key, entry) => { queue.set(key, entry); try { localStorage.setItem(key, JSON.stringify(entry)); } catch { /* off or full */ } };
  const drop = (key) => { queue.delete(key); try { localStorage.removeItem(key); } catch { /* off */ } };
  async function flush() {
    if (flushing) return;
    flushing = true;
    clearTimeout(timer);
    while (queue.size) {
      const [key, entry] = [...queue].sort((a, b) => a[1].order - b[1].order)[0];
      const page = current?.key === key ? current : null;
      try {
        const answer = await fetch(entry.path, { method: "POST", body: new URLSearchParams(entry.values), headers: { accept: "application/json" }, signal: AbortSignal.timeout(15000) });
        if (answer.status >= 500 || answer.status === 429 || answer.status === 408) throw answer;
        const told = await answer.json().catch(() => ({}));
        if (queue.get(key)?.values.seq === entry.values.seq) drop(key);
        pause = 1000;
        if (answer.status === 409) { ask(entry); return; }
        page?.told(answer, told, entry);
      } catch {
        current?.offline([...queue.values()].reduce((n, one) => n + one.count, 0));
        timer = setTimeout(flush, pause);
        pause = Math.min(pause * 2, 10000);
        break;
      }
    }
    flushing = false;
  }
  function ask(entry) {
    // Answered in another window too: the server's page shows both and asks.
    const form = document.createElement("form");
    form.method = "post";
    form.action = entry.path;
    for (const [name, value] of Object.entries({ ...entry.values, seq: entry.values.seq + 1 })) {
      const input = document.createElement("input");
      input.type = "hidden"; input.name = name; input.value = value;
      form.append(input);
    }
    document.body.append(form);
    form.submit();
  }
  addEventListener("online", flush);
  flush();

  // Pages that follow, loaded ahead with their videos, so that a lost connection does not stop the rater.
  const ahead = new Map();
  async function fetchAhead(paths) {
    for (const path of paths) {
      if (ahead.has(path)) continue;
      try {
        const answer = await fetch(path, { headers: { "x-ahead": "1" } });
        if (!answer.ok || answer.redirected) return;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        ahead.set(path, page);
        await Promise.all(all("video", page).map((video) => fetch(video.getAttribute("src")).then((one) => one.blob())));
      } catch { return; }
    }
  }

  function trialPage(form) {
    const life = new AbortController(), words = form.dataset, trial = words.trial;
    const name = form.elements.page.value, token = form.elements.form.value, opened = performance.now();
    const state = find("#saved"), total = +words.total, key = `kept-${trial}-${name}`;
    const since = () => Math.round(performance.now() - opened);
    const on = (where, what, how) => where.addEventListener(what, how, { signal: life.signal });
    const every = (how, ms) => { const id = setInterval(how, ms); on(life.signal, "abort", () => clearInterval(id)); };
    const problem = find("[data-problem]");
    if (problem) (find("[aria-invalid]") || problem).focus();

    // What happened to the videos, sent in small parcels.
    let parcels = [], counted = 0;
    const tell = (kind, slot = 0, value = 0) => {
      parcels.push([counted++, kind, slot, since(), Math.max(0, Math.round(value))]);
      if (parcels.length >= 40) ship();
    };
    const ship = () => {
      if (!parcels.length) return;
      const events = parcels;
      parcels = [];
      fetch(`/t/${trial}/events`, { method: "POST", keepalive: true, headers: { "content-type": "application/json" }, body: JSON.stringify({ form: token, page: name, events }) })
        .then((answer) => { if (answer.status >= 500) throw answer; })
        .catch(() => { parcels = events.concat(parcels).slice(-400); });
    };
    on(window, "blur", () => tell("blur"));
    on(window, "focus", () => tell("focus"));
    on(window, "pagehide", ship);
    on(document, "visibilitychange", () => { if (document.hidden) ship(); });
    every(ship, 5000);

    // Videos of one page: start together, stay together, loop together.
    const videos = all("video", form), loads = videos.map((video) => find(".load", video.closest(".show")));
    const toggle = find("[data-toggle]"), together = find("[data-together]");
    let running = false, wanted = !calm, begun = false, turning = false, spreads = [];
    toggle.hidden = together.hidden = false;
    const label = () => { toggle.textContent = running ? words.pause : words.play; };
    const ready = (video) => video.readyState >= 3 || video.error;
    const good = () => videos.filter((video) => !video.error);
    async function start(fromZero) {
      if (fromZero) for (const video of good()) video.currentTime = 0;
      try {
        await Promise.all(good().map((video) => video.play()));
        running = true;
        if (!turning) tell("play", 0, good()[0]?.currentTime * 1000 || 0);
      } catch {
        // A browser that starts nothing by itself: the button says Play, and the page counts all the same.
        running = false;
        tell("blocked");
      }
      label();
    }
    function stop() {
      running = wanted = false;
      for (const video of videos) video.pause();
      tell("pause", 0, videos[0].currentTime * 1000);
      label();
    }
    async function turn() {
      // The first one at its end takes all back to the beginning: no offset lives longer than one round.
      if (turning || !running) return;
      turning = true;
      tell("end");
      await start(true);
      turning = false;
    }
    function begin() {
      if (begun || !videos.every(ready)) return;
      begun = true;
      tell("ready");
      if (wanted) start(true); else label();
      fetchAhead((words.next || "").split(" ").filter(Boolean));
    }
    function keepTogether() {
      if (!running || turning || good().length < 2) return;
      const now = good().map((video) => video.currentTime), lead = now[0];
      spreads.push((Math.max(...now) - Math.min(...now)) * 1000);
      if (spreads.length >= 200) {
        spreads.sort((a, b) => a - b);
        tell("spread", 0, spreads[Math.floor(spreads.length * 0.95)]);
        spreads = [];
      }
      good().forEach((video, k) => {
        const behind = lead - now[k];
        if (Math.abs(behind) > 0.25) video.currentTime = lead;
        else video.playbackRate = 1 + Math.max(-0.25, Math.min(0.25, behind * 2));
      });
    }
    videos.forEach((video, k) => {
      video.loop = video.controls = false;
      on(video, "ended", turn);
      on(video, "waiting", () => tell("stall", k + 1, video.currentTime * 1000));
      const broken = () => { loads[k].textContent = words.broken; loads[k].hidden = false; tell("error", k + 1); begin(); };
      on(video, "error", broken);
      on(video, "canplay", () => { loads[k].hidden = true; begin(); });
      on(video, "progress", () => {
        if (ready(video) || !video.duration) return;
        const end = video.buffered.length ? video.buffered.end(0) : 0;
        loads[k].hidden = false;
        loads[k].textContent = put(words.loading, { n: k + 1, total: videos.length, percent: Math.round(100 * end / video.duration) });
      });
      if (video.error) broken();
    });
    every(keepTogether, 50);
    on(toggle, "click", () => { if (running) stop(); else { wanted = true; start(false); } });
    on(together, "click", () => { wanted = true; start(true); });
    const enlarge = (slot) => {
      if (document.fullscreenElement) document.exitFullscreen();
      else videos[slot - 1]?.requestFullscreen?.().catch(() => {});
    };
    for (const button of all("[data-enlarge]", form)) {
      button.hidden = !document.fullscreenEnabled;
      on(button, "click", () => enlarge(+button.dataset.enlarge));
    }
    label();
    begin();

    // Keys: figures rate (or count answers that are words) and go on to the next question, space plays, F enlarges.
    on(document, "keydown", (event) => {
      const at = event.target, group = at.closest?.("fieldset");
      if (event.ctrlKey || event.metaKey || event.altKey || /^(TEXTAREA|SELECT)$/.test(at.tagName)) return;
      if (event.key === " " && (at.type !== "radio" || at.checked) && !/^(BUTTON|A)$/.test(at.tagName)) {
        event.preventDefault();
        toggle.click();
      } else if (event.key === "f" || event.key === "F") {
        enlarge(videos.findIndex((video) => video.closest(".clip").contains(at)) + 1 || 1);
      } else if (/^[0-9]$/.test(event.key) && group) {
        const value = event.key === "0" ? "10" : event.key;
        const radios = all("input", group), radio = radios.find((one) => one.value === value) ?? radios[value - 1];
        if (!radio) return;
        event.preventDefault();
        if (!radio.checked) { radio.checked = true; radio.dispatchEvent(new Event("change", { bubbles: true })); }
        const groups = all("fieldset", form), following = groups[groups.indexOf(group) + 1];
        (following ? find("input:checked", following) || find("input", following) : radio).focus();
      }
    });

    // Every change is saved at once; Next finishes the page.
    let seq = 0, bypass = false;
    const show = (text, kind) => { state.textContent = text; state.className = kind; };
    function change(finish) {
      const values = Object.fromEntries(all("input[type=radio]:checked", form).map((one) => [one.name, one.value]));
      // Not the time: the clock of the device may be set back.
      const order = queue.get(key)?.order ?? 1 + Math.max(0, ...[...queue.values()].map((one) => one.order));
      const rest = { form: token, page: name, base: form.elements.base.value, seq: ++seq, ms: since() };
      const stays = finish || queue.get(key)?.values.finish || 0;
      hold(key, { path: `/t/${trial}`, order, count: Object.keys(values).length, values: { ...values, ...rest, finish: stays } });
      flush();
    }
    on(form, "change", () => change(0));
    on(form, "submit", (event) => { if (bypass) return; event.preventDefault(); show(words.saving, ""); change(1); });
    function lack(names) {
      for (const group of all("fieldset", form)) group.classList.toggle("lacking", names.includes(group.dataset.field));
      const titles = names.map((one) => all("legend .hidden, legend strong", find(`[data-field="${one}"]`)).map((part) => part.textContent).join(""));
      show(words.missing + titles.slice(0, 3).join(", ") + (titles.length > 3 ? " ..." : ""), "warned");
      document.title = document.title.replace(/^/, document.title.startsWith("Error") ? "" : "Error: ");
      find(".lacking input", form)?.focus();
    }
    function swap() {
      // Not connected: go on with a page that was loaded ahead. The order of saving stays.
      const [path] = (words.next || "").split(" "), page = ahead.get(path);
      if (!page || all("input:checked", form).length < all("fieldset", form).length) return false;
      life.abort();
      for (const video of videos) video.pause();
      document.title = page.title;
      find("main").replaceWith(document.importNode(find("main", page), true));
      scrollTo(0, 0);
      current = trialPage(find("#answers"));
      return true;
    }
    return {
      key,
      told(answer, told, entry) {
        if (told.problem) { show(told.problem, "warned"); return; }
        if (!answer.ok) {
          if (told.next) { location.assign(told.next); return; }
          bypass = true;
          form.requestSubmit(find("[name=finish]", form));
          return;
        }
        show(put(words.saved, { n: Object.keys(told.answers).length, total }), "fine");
        if (entry.values.finish && told.next) { ship(); location.assign(told.next); }
        else if (entry.values.finish && told.missing.length) lack(told.missing);
      },
      offline(n) {
        if (queue.get(key)?.values.finish && swap()) { current.offline(n); return; }
        show(put(words.offline, { n }), "warned");
      },
    };
  }
  const form = find("#answers");
  if (form) current = trialPage(form);
})();
