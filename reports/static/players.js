// Videos that run in step, and eight frames of each under the pointer. Without script they are plain videos.
(() => {
  const all = (what, where = document) => [...where.querySelectorAll(what)];
  const on = (one, kind, act) => one.addEventListener(kind, act);
  const say = (one, name, value) => one.setAttribute(name, value);
  // At most six videos play at once; groups that are on the page.
  const most = 6, playing = new Set(), groups = new Set();
  document.addEventListener("play", ({ target }) => {
    playing.delete(target);
    playing.add(target);
    if (playing.size > most) [...playing][0].pause();
  }, true);
  for (const kind of ["pause", "ended"]) document.addEventListener(kind, ({ target }) => playing.delete(target), true);
  // What is more than a screen away does not play.
  const near = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) if (!isIntersecting) (target.stop || target.pause).call(target);
  }, { rootMargin: "100% 0px" });

  function scrub(screen) {
    const strip = screen.querySelector(".sprite"), video = screen.querySelector("video");
    if (!strip) return;
    const picture = strip.firstElementChild, end = () => { strip.hidden = true; };
    const show = (k) => {
      if (!video.paused || video.currentTime > 0) return;
      picture.src ||= picture.dataset.src;
      strip.hidden = false;
      picture.style.transform = `translateX(${-12.5 * k}%)`;
    };
    on(screen, "pointermove", (event) => {
      const box = screen.getBoundingClientRect();
      if (event.pointerType !== "touch") show(Math.max(0, Math.min(7, Math.floor(8 * (event.clientX - box.left) / box.width))));
    });
    on(screen, "focusin", () => show(4));
    for (const kind of ["pointerleave", "focusout"]) on(screen, kind, end);
    for (const kind of ["play", "seeking"]) on(video, kind, end);
  }

  function group(box) {
    const videos = all("video[data-film]", box).slice(0, most), bar = box.querySelector(".transport");
    if (!videos.length) return;
    const find = (what) => bar.querySelector(what), button = (what) => find(`[data-do=${what}]`), lead = videos[0];
    const said = box.querySelector("[data-said]"), play = button("play"), line = find("input"), loop = button("loop"), differ = button("difference");
    const icon = play.querySelector("path"), triangle = icon.getAttribute("d");
    const frames = Math.min(...videos.map((video) => +video.dataset.frames)), fps = +lead.dataset.fps, length = frames / fps;
    let wanted = false, speed = 1, timer = 0, canvas = null;
    bar.hidden = false;
    box.querySelector(".keys").hidden = false;
    for (const one of [differ, ...all(".for-two", box)]) one.hidden = videos.length !== 2;
    line.max = frames - 1;
    const ticks = Math.min(frames, 64);
    find(".seek svg").innerHTML = Array.from({ length: ticks }, (_, k) => {
      const x = `${100 * k / (ticks - 1 || 1)}%`;
      return `<line x1="${x}" x2="${x}" y2="${k % 4 ? 3 : 6}"/>`;
    }).join("");
    for (const video of videos) {
      video.controls = video.loop = false;
      video.tabIndex = 0;
      on(video, "click", () => toggle());
      on(video, "error", () => {
        said.textContent = `${video.ariaLabel}: this browser cannot play it (H.264 in MP4). `;
        const link = document.createElement("a");
        link.href = video.src;
        link.textContent = "Open the file";
        said.append(link);
      });
      const enlarge = document.createElement("button");
      enlarge.type = "button";
      enlarge.className = "enlarge";
      enlarge.ariaLabel = `Enlarge ${video.ariaLabel}`;
      enlarge.innerHTML = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M9 2h5v5M14 2L9 7M7 14H2V9M2 14l5-5"/></svg>';
      on(enlarge, "click", () => document.fullscreenElement ? document.exitFullscreen() : video.requestFullscreen().catch(() => {}));
      if (document.fullscreenEnabled) video.after(enlarge);
    }

    const at = () => Math.min(frames - 1, Math.floor(lead.currentTime * fps + 0.01));
    function show() {
      line.value = at();
      find("output").textContent = line.ariaValueText = `frame ${at() + 1} of ${frames}`;
      say(icon, "d", wanted ? "M4 2h3v12H4zM9 2h3v12H9z" : triangle);
      play.ariaLabel = wanted ? "Pause all" : "Play all";
      if (canvas) draw();
    }
    // Every video is there before the first one starts, so that all start together.
    async function ready() {
      const missing = videos.filter((video) => video.readyState < 3 && !video.error);
      let left = missing.length;
      await Promise.all(missing.map((video) => new Promise((go) => {
        on(video, "canplay", go);
        on(video, "error", go);
        video.preload = "auto";
        video.load();
        said.textContent = `Loading video 1 of ${left}`;
      }).then(() => { said.textContent = --left ? `Loading video ${missing.length - left + 1} of ${missing.length}` : said.textContent.replace(/^Loading.*/, ""); })));
    }
    async function start() {
      wanted = true;
      for (const other of groups) if (other.box !== box) other.stop();
      await ready();
      if (lead.currentTime >= length - 0.6 / fps) await seek(0);
      if (!wanted) return;
      for (const video of videos) video.playbackRate = speed;
      await Promise.all(videos.map((video) => video.play().catch(() => {})));
      clearInterval(timer);
      timer = setInterval(keep, 40);
      show();
    }
    function stop() {
      if (!wanted) return;
      wanted = false;
      clearInterval(timer);
      for (const video of videos) video.pause();
      seek(at());
    }
    const toggle = () => (wanted ? stop() : start());
    // Small gaps are closed by speed and large ones by a jump; all have one end and one start after it.
    function keep() {
      if (!box.isConnected) { stop(); groups.delete(api); return; }
      if (videos.some((video) => video.ended || video.currentTime >= length - 0.004)) {
        clearInterval(timer);
        if (loop.ariaPressed !== "true") { stop(); return; }
        for (const video of videos) video.pause();
        seek(0).then(() => wanted && start());
        return;
      }
      for (const video of videos.slice(1)) {
        const gap = video.currentTime - lead.currentTime;
        if (Math.abs(gap) > 0.3) video.currentTime = lead.currentTime;
        video.playbackRate = Math.abs(gap) > 0.02 ? speed * (gap > 0 ? 0.9 : 1.1) : speed;
      }
      show();
    }
    // The middle of a frame is asked for: its edge may show the one before.
    function seek(frame) {
      const k = Math.max(0, Math.min(frames - 1, frame));
      return Promise.all(videos.map((video) => new Promise((go) => {
        video.addEventListener("seeked", go, { once: true });
        setTimeout(go, 500);
        video.currentTime = k ? (k + 0.5) / fps : 0;
      }))).then(show);
    }
    const move = async (to) => { stop(); await ready(); await seek(to); };
    function draw() {
      const context = canvas.getContext("2d"), { videoWidth: width, videoHeight: height } = lead;
      canvas.width = width;
      canvas.height = height;
      context.drawImage(lead, 0, 0, width, height);
      context.globalCompositeOperation = "difference";
      context.drawImage(videos[1], 0, 0, width, height);
      context.globalCompositeOperation = "lighter";
      for (const _ of "xx") context.drawImage(canvas, 0, 0);
    }
    async function difference() {
      if (differ.hidden) return;
      await ready();
      if (canvas) { canvas.remove(); canvas = null; } else {
        canvas = document.createElement("canvas");
        videos[1].after(canvas);
        draw();
      }
      differ.ariaPressed = !!canvas;
      said.textContent = canvas ? "On the right: absolute difference, × 4" : "";
    }
    const keys = {
      " ": toggle, ",": () => move(at() - 1), ".": () => move(at() + 1), d: difference,
      arrowleft: () => move(at() - Math.round(fps)), arrowright: () => move(at() + Math.round(fps)),
    };
    on(play, "click", toggle);
    on(button("back"), "click", keys[","]);
    on(button("ahead"), "click", keys["."]);
    on(differ, "click", difference);
    on(loop, "click", () => { loop.ariaPressed = loop.ariaPressed !== "true"; });
    on(find("select"), "change", (event) => { speed = +event.target.value; for (const video of videos) video.playbackRate = speed; });
    on(line, "input", () => move(+line.value));
    const api = { box, stop, keys };
    box.stop = stop;
    groups.add(api);
    near.observe(box);
    show();
  }

  // Keys belong to the group that has the focus, and to the only group of a page wherever nothing else wants them.
  on(document, "keydown", (event) => {
    const at = event.target, key = event.key.toLowerCase(), isArrow = key.startsWith("arrow"), list = [...groups];
    if (event.ctrlKey || event.metaKey || event.altKey || /^(TEXTAREA|SELECT)$/.test(at.tagName)) return;
    if (at.tagName === "INPUT" && (at.type !== "range" || isArrow)) return;
    if (key === " " && /^(BUTTON|A|SUMMARY)$/.test(at.tagName)) return;
    const one = list.find(({ box }) => box.contains(at)) || (list.length === 1 && at === document.body && !isArrow && key !== " " ? list[0] : null);
    if (one && Object.hasOwn(one.keys, key)) { event.preventDefault(); one.keys[key](); }
  });

  function start(where = document) {
    for (const one of all(".screen, [data-group], video[data-film]", where)) {
      if (one.dataset.on) continue;
      one.dataset.on = "1";
      if (one.matches(".screen")) scrub(one);
      else if (one.matches("[data-group]")) group(one);
      else if (!one.closest("[data-group]")) near.observe(one);
    }
  }
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => start()); else start();
  window.cogeval = { ...window.cogeval, start };
})();
