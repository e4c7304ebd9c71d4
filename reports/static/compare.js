// Any two to six models of one protocol. The figures of a model are a script of its own, loaded when it is chosen.
// The choice is in the fragment: #t=table&m=a,b&p=prompt.
addEventListener("DOMContentLoaded", () => {
  const one = (what, where = document) => where.querySelector(what), none = "No difference found";
  const island = one("#pairs");
  if (!island) return;
  const data = JSON.parse(island.textContent), chooser = one("[data-chooser]"), found = one("[data-found]"), pick = one("[data-table]", chooser);
  const shapes = [...document.querySelectorAll("#shapes path")].map((path) => path.getAttribute("d"));
  const make = (name, text = "", kind = "", more = {}) => Object.assign(document.createElement(name), { textContent: text, className: kind }, more);
  const marker = (k) => `<svg class="marker series-${k + 1}" viewBox="0 0 12 12" aria-hidden="true"><path d="${shapes[k]}"/></svg>`;
  const number = (v, d, sign) => {
    const text = Math.abs(v).toLocaleString("en-US", { minimumFractionDigits: d, maximumFractionDigits: d });
    return /[1-9]/.test(text) ? (v < 0 ? "\u2212" : sign ? "+" : "") + text : text;
  };
  const place = (v, reach) => `${(50 + 45 * v / reach).toFixed(2)}%`;
  const small = (p) => (p < 0.001 ? "< 0.001" : p.toFixed(p < 0.1 ? 3 : 2));
  const holm = (ps) => {
    const order = ps.map((p, k) => [p, k]).filter(([p]) => p !== null).sort((a, b) => a[0] - b[0]), out = ps.map(() => null);
    let worst = 0;
    order.forEach(([p, k], rank) => { out[k] = worst = Math.max(worst, Math.min(1, (order.length - rank) * p)); });
    return out;
  };
  let table, chosen;
  const rows = {}, asks = {}, key = (k) => `${pick.value}/${table.models[k].id}`, row = (k) => rows[key(k)];
  window.cogeval = { row(name, held) { rows[name] = held; } };
  // A page from file:// may load scripts and nothing else.
  const script = (src, go) => document.head.append(make("script", "", "", { src, onload: go, onerror: go }));
  const load = (k) => asks[key(k)] ||= new Promise((go) => script(`data/pairs/${key(k)}.js`, go));
  // The players come when the videos are a screen away; they start what is there.
  const near = new IntersectionObserver((seen) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    near.disconnect();
    script("assets/players.js");
  }, { rootMargin: "100% 0px" });
  // Two-sided p of a normal z, to seven places (Abramowitz and Stegun 7.1.26).
  const tails = (z) => {
    const x = z / Math.SQRT2, t = 1 / (1 + 0.3275911 * x);
    return t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * Math.exp(-x * x);
  };
  // First minus the k-th by the n-th metric: difference, half width, p, whether paired; null where there is none.
  const pair = (n, k) => {
    const first = row(chosen[0]), second = row(k);
    if (!first || !second) return null;
    if (first.pairs[n]) return first.pairs[n][k] || null;
    const a = first.alone?.[n], b = second.alone?.[n];
    if (!a || !b) return null;
    const gap = a[0] - b[0], half = Math.hypot(a[1], b[1]);
    return [gap, half, half ? tails(1.959964 * Math.abs(gap) / half) : +!gap, 0];
  };
  const score = (k, prompt) => row(k)?.s[prompt.at] ?? null;
  const link = (changes) => {
    const asked = new URLSearchParams({ t: pick.value, m: chosen.map((k) => table.models[k].id).join(","), ...changes });
    return `#${asked}`.replace(/%2C/g, ",");
  };
  const go = (changes) => { history.replaceState(null, "", link(changes)); paint(); };

  function choices() {
    const box = one("[data-models]", chooser), focus = [...box.children].findIndex((label) => label.contains(document.activeElement));
    box.replaceChildren(...chosen.map((k, n) => {
      const label = make("label", `Model ${n + 1}`, "field"), select = make("select");
      table.models.forEach((model, m) => select.add(new Option(model.title, m, false, m === k)));
      select.addEventListener("change", () => { chosen[n] = +select.value; go({}); });
      label.append(select);
      return label;
    }));
    box.className = "filters bare";
    box.children[focus]?.lastChild.focus();
    one("[data-add]", chooser).hidden = chosen.length >= Math.min(6, table.models.length);
  }

  function differences(j, k) {
    const metrics = table.metrics, ps = holm(metrics.map((_, n) => pair(n, j)?.[2] ?? null)), calls = [];
    const lines = metrics.map((metric, n) => {
      const line = make("tr"), head = make("th"), held = pair(n, j);
      head.scope = "row";
      head.append(metric.label, make("span", `${metric.better} is better`, "two"));
      line.append(head);
      if (!held) {
        line.append(make("td", "one of them has no value here", "absent", { colSpan: 5 }));
        return line;
      }
      const [gap, half] = held, low = gap - half, high = gap + half, told = ps[n] < 0.05 && (low > 0 || high < 0);
      const winner = told ? ((gap < 0) === (metric.better === "lower") ? 0 : k) : -1, reach = Math.max(...chosen.slice(1).map((m) => pair(n, m)).map((h) => (h ? Math.abs(h[0]) + h[1] : 0))) || 1;
      const kind = winner < 0 ? "mute" : `series-${winner + 1}`, mark = `<svg x="${place(gap, reach)}" class="marker" overflow="visible" width="1" height="1"><path transform="translate(-6 5)" d="${shapes[Math.max(winner, 0)]}"/></svg>`;
      line.append(make("td", number(gap, metric.d, true), "right"), make("td", `${number(low, metric.d, true)} to ${number(high, metric.d, true)}`, "right"));
      const bar = make("td", "", "figure", { innerHTML: `<svg class="fig" aria-hidden="true" height="22"><line class="track" x2="100%" y1="11" y2="11"/><line x1="50%" x2="50%" y2="22"/><g class="k k-${kind}"><line class="span" x1="${place(low, reach)}" x2="${place(high, reach)}" y1="11" y2="11"/>${mark}</g></svg>` });
      const said = make("td"), first = table.models[chosen[0]].title, second = table.models[chosen[k]].title;
      if (winner < 0) said.append(none);
      else {
        const name = winner ? second : first;
        said.innerHTML = `${marker(winner)} `;
        said.append(make("strong", `${name} ${metric.better}`));
        calls.push([name, metric.label, metric.better]);
      }
      if (!held[3]) said.append(make("span", "not paired", "two"));
      line.append(bar, said, make("td", small(ps[n]), "right"));
      return line;
    });
    return [lines, calls];
  }

  const said = ({ text, lang }, name) => make(name, text, "", { dir: "auto", lang });
  function films(prompt) {
    const box = one("[data-player]"), group = one("#group").content.firstElementChild.cloneNode(true), clips = chosen.map((k) => row(k)?.c[prompt.at]), list = one("ul", group), film = one("template", list);
    box.replaceChildren(said(prompt, "h3"), group);
    clips.forEach((clip, n) => {
      const item = film.content.cloneNode(true), [who, worth] = one(".over", item).children, screen = one(".screen", item), value = score(chosen[n], prompt), { title } = table.models[chosen[n]];
      who.innerHTML = `${marker(n)} `;
      who.append(make("strong", title));
      if (value !== null && table.score) worth.textContent = `${table.score.label} ${number(value, table.score.d)}`;
      if (clip) {
        const [src, poster, strip, width, height, frames, fps] = clip, video = one("video", item), files = "media/";
        screen.classList.toggle("crisp", width < 128);
        Object.assign(video, { muted: true, width, height, src: files + src, poster: files + poster, ariaLabel: `${title}: ${prompt.text}` });
        Object.assign(video.dataset, { frames, fps });
        one("img", item).dataset.src = files + strip;
      } else screen.replaceWith(make("span", "This video is not in the folder.", "gone small"));
      list.append(item);
    });
    film.remove();
    if (!clips.some(Boolean)) { one(".transport", group).remove(); one(".keys", group).remove(); }
    const note = make("p", "", "small");
    note.append(make("a", "This prompt, all models", "", { href: `prompt/${prompt.page}.html` }), " ", make("a", "Link to this comparison", "", { href: link({ p: prompt.id }) }));
    box.append(note);
    cogeval.start?.(box);
  }

  function prompts(asked) {
    const [i, j] = chosen, list = one(".pick"), gap = (prompt) => (score(i, prompt) === null || score(j, prompt) === null ? null : score(i, prompt) - score(j, prompt));
    const order = [...table.prompts].sort((a, b) => Math.abs(gap(b) ?? -1) - Math.abs(gap(a) ?? -1)), now = order.find((prompt) => prompt.id === asked) || order[0];
    const by = table.score ? ` (${table.score.label})` : "";
    one("[data-ordered]").textContent = order.length ? `Prompts shown, largest gap first${by}` : "";
    list.replaceChildren(...order.map((prompt) => {
      const item = make("li"), button = make("button", "", "", { type: "button" }), value = gap(prompt);
      button.append(said(prompt, "span"), make("span", value === null ? "no score" : number(value, table.score.d, true), "small"));
      if (prompt === now) item.setAttribute("aria-current", "true");
      button.addEventListener("click", () => {
        for (const other of list.children) other.removeAttribute("aria-current");
        item.setAttribute("aria-current", "true");
        history.replaceState(null, "", link({ p: prompt.id }));
        films(prompt);
      });
      item.append(button);
      return item;
    }));
    if (now) films(now); else one("[data-player]").replaceChildren();
  }

  async function paint() {
    const asked = new URLSearchParams(location.hash.slice(1)), name = data[asked.get("t")] ? asked.get("t") : pick.value;
    table = data[name];
    pick.value = name;
    chosen = [...new Set((asked.get("m") || "").split(",").map((id) => table.models.findIndex((model) => model.id === id)).filter((k) => k >= 0))].slice(0, 6);
    const given = chosen.length > 1;
    for (let k = 0; chosen.length < 2; k++) if (!chosen.includes(k)) chosen.push(k);
    table.prompts.forEach((prompt, at) => { prompt.at = at; });
    const now = chosen;
    await Promise.all(chosen.map(load));
    if (now !== chosen) return;
    choices();
    document.querySelectorAll("[data-static]").forEach((part) => { part.hidden = given; });
    found.hidden = false;
    const names = chosen.map((k) => table.models[k].title), title = one("[data-title]");
    title.replaceChildren();
    names.forEach((text, n) => {
      title.insertAdjacentHTML("beforeend", `${n ? (n === names.length - 1 ? " and " : ", ") : ""}${marker(n)} `);
      title.append(make("bdi", text));
    });
    document.title = `${names.join(" and ")} – cogeval`;
    one("[data-protocol]").textContent = ` / ${table.name}, fingerprint ${table.fingerprint}`;
    const body = one(".differences tbody"), said = [];
    body.replaceChildren();
    chosen.slice(1).forEach((other, n) => {
      const [lines, calls] = differences(other, n + 1);
      if (chosen.length > 2) {
        const line = make("tr");
        line.append(make("th", `${names[0]} minus ${names[n + 1]}`, "", { colSpan: 6, scope: "rowgroup" }));
        body.append(line);
      }
      body.append(...lines);
      said.push(...calls);
    });
    one("#d-title").textContent = `Differences, ${names[0]} minus ${chosen.length > 2 ? "each other" : names[1]}`;
    const lead = one("[data-lead]");
    const by = {};
    for (const [who, what, how] of said) (by[`${who} is ${how} on`] ||= []).push(what);
    const claims = Object.entries(by).map(([who, what]) => `${who} ${what.join(", ")}`).join("; ");
    lead.replaceChildren(make("strong", claims || none), claims ? "; no difference found on the rest." : " on any metric.");
    const gone = names.filter((_, n) => !row(chosen[n]));
    if (gone.length) lead.textContent = `The figures of ${gone.join(" and ")} are not in the folder (data/pairs/).`;
    const part = one("[data-wins]"), i = chosen[0], j = chosen[1], held = row(i)?.wins?.[j];
    part.hidden = chosen.length > 2 || !held;
    if (!part.hidden) {
      const [a, same, b] = held, total = a + same + b || 1, words = one(".over-bar", part), figure = one("svg", part);
      words.replaceChildren(...[[`${names[0]} better`, a], ["same digits", same], [`${names[1]} better`, b]].map(([text, n]) => make("strong", `${text} ${number(n, 0)}`)));
      figure.setAttribute("aria-label", words.textContent);
      figure.innerHTML = [[0, a, "k-series-1", "full"], [a, same, "k-none", "none"], [a + same, b, "k-series-2", "full"]].map(([x, n, kind, fill]) => `<g class="k ${kind}"><rect class="${fill}" x="${100 * x / total}%" width="${100 * n / total}%" height="16"/></g>`).join("");
      one("h2", part).textContent = `Prompt by prompt, ${table.score.label}`;
    }
    prompts(asked.get("p"));
  }

  chooser.hidden = false;
  chooser.addEventListener("submit", (event) => event.preventDefault());
  pick.addEventListener("change", () => { table = data[pick.value]; chosen = [0, 1]; go({}); });
  one("[data-add]", chooser).addEventListener("click", () => { chosen.push(table.models.findIndex((_, k) => !chosen.includes(k))); go({}); });
  addEventListener("hashchange", paint);
  near.observe(one("[data-player]"));
  paint();
});
