export function delay(failures: number, random: number): number;
