// Durations as the server writes them: `1.9 s`, `37 s`, `4m 12s`, `3h 12m`, `1d 4h`.
export function duration(ms) {
  const s = Math.floor(Math.max(ms, 0) / 1000);
  if (s < 10) return `${s}.${Math.floor((Math.max(ms, 0) % 1000) / 100)} s`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${s % 60}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor((s % 3600) / 60)}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor((s % 86400) / 3600)}h`;
}
