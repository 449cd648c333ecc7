// Tells the page that its visitor is back: from another window, another tab, a terminal. Nothing is asked meanwhile.

const PAUSE = 1000; // both events come at once; one look is enough

export default function (component) {
  const { setTriggerValue } = component;
  let last = performance.now();
  const back = () => {
    if (document.visibilityState !== "visible" || performance.now() - last < PAUSE) return;
    last = performance.now();
    setTriggerValue("back", Date.now());
  };
  addEventListener("focus", back);
  document.addEventListener("visibilitychange", back);
  return () => {
    removeEventListener("focus", back);
    document.removeEventListener("visibilitychange", back);
  };
}
