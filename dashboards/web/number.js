// How numbers and times are written, and the one thing that is computed here: the interval of a change.

const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const NONE = "–";

export const count = (number) => (number === null || number === undefined ? NONE : whole.format(number));

/** 0.1234 as "12.3%": one digit more below one percent, where it matters. */
export function percent(share) {
  if (share === null || share === undefined) return NONE;
  const small = share > 0 && share < 0.01;
  return `${(share * 100).toFixed(small ? 2 : 1)}%`;
}

export const interval = (estimate) =>
  estimate && estimate.reviews ? `${percent(estimate.low)} to ${percent(estimate.high)}` : NONE;

export function points(difference) {
  const digits = Math.abs(difference) < 0.001 ? 2 : 1;
  const text = (Math.abs(difference) * 100).toFixed(digits);
  if (Number(text) === 0) return "±0";
  return `${difference < 0 ? "−" : "+"}${text}`;
}

/**
 * How much higher `now` is than `before`, with its 95 % interval (Newcombe 1998, method 10: from the intervals of both,
 * doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I). null where one of them has no review.
 */
export function change(now, before) {
  if (!now?.reviews || !before?.reviews) return null;
  const value = now.value - before.value;
  return {
    value,
    low: value - Math.hypot(now.value - now.low, before.high - before.value),
    high: value + Math.hypot(now.high - now.value, before.value - before.low),
  };
}

export function duration(length) {
  if (length === null || length === undefined) return NONE;
  if (length < 1) return `${Math.round(length * 1000)} ms`;
  if (length < 10) return `${length.toFixed(1)} s`;
  if (length < 120) return `${Math.round(length)} s`;
  if (length < 7200) return `${Math.round(length / 60)} min`;
  if (length < 172800) return `${Math.round(length / 3600)} h`;
  return `${Math.round(length / 86400)} days`;
}

/** The length of a step: "5 minutes". */
export function steps(length) {
  const [number, unit] = length % 86400 === 0 ? [length / 86400, "day"] : length % 3600 === 0 ? [length / 3600, "hour"] : [length / 60, "minute"];
  return `${number} ${unit}${number === 1 ? "" : "s"}`;
}

const moment = (when) => new Date(typeof when === "number" ? when * 1000 : when);

const sameDay = (a, b) => a.toDateString() === b.toDateString();

/** "14:05", with the day where it is not today's; of an ISO time or of Unix seconds. */
export function time(when, exact = false) {
  if (when === null || when === undefined) return NONE;
  const then = moment(when);
  if (Number.isNaN(then.getTime())) return NONE;
  const text = (exact ? seconds : clock).format(then);
  return sameDay(then, new Date()) ? text : `${day.format(then)}, ${text}`;
}

export const timeSpan = (since, until) =>
  sameDay(moment(since), moment(until)) ? `${time(since)} to ${clock.format(moment(until))}` : `${time(since)} to ${time(until)}`;

export const iso = (when) => {
  const then = moment(when);
  return Number.isNaN(then.getTime()) ? "" : then.toISOString();
};
