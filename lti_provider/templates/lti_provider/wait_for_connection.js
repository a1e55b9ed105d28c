{
  const { stateUrl, enterUrl, secret } = document.currentScript.dataset;
  const started = Date.now();
  let timer;

  const show = (state) => {
    for (const line of document.querySelectorAll("[data-state]")) {
      line.hidden = line.dataset.state !== state;
    }
  };

  const ask = async () => {
    clearTimeout(timer);
    let state = "waiting";
    try {
      const answer = await fetch(stateUrl, { headers: { "X-Lti-Secret": secret } });
      state = (await answer.json()).state;
    } catch {
      // Offline for a moment: ask again.
    }
    if (state === "connected") {
      location.replace(enterUrl);
      return;
    }
    show(state);
    if (state === "ended") {
      document.removeEventListener("visibilitychange", askWhenSeen);
      return;
    }
    clearTimeout(timer);
    timer = setTimeout(ask, Date.now() - started < 120000 ? 2000 : 5000);
  };

  // Browsers slow the timers of a tab that nobody sees.
  const askWhenSeen = () => {
    if (document.visibilityState === "visible") {
      ask();
    }
  };

  document.addEventListener("visibilitychange", askWhenSeen);
  timer = setTimeout(ask, 2000);
}
