{
  // The button stays: whoever does not know this message does not answer it.
  const { launchUrl, origins } = document.currentScript.dataset;
  for (const origin of origins.split(" ")) {
    window.parent.postMessage({ messageType: "requestFullWindowLaunch", data: launchUrl }, origin);
  }
}
