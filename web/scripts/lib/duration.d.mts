export function duration(ms: number): string;
