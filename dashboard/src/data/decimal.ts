// Decimals as the server writes them: text, exact.
//
// Owns: the one division the page needs. Does not own: sums, which are the server's.

/** The quotient with so many digits, halves to even; `null` where there is none. */
export function divide(dividend: string, divisor: number, digits: number): string | null {
  const [, sign = '', whole = '', fraction = ''] = /^(-?)(\d+)(?:\.(\d*))?$/.exec(dividend) ?? [];
  if (whole === '' || !Number.isSafeInteger(divisor) || divisor <= 0) return null;
  const scaled = BigInt(whole + fraction) * 10n ** BigInt(digits);
  const by = BigInt(divisor) * 10n ** BigInt(fraction.length);
  let quotient = scaled / by;
  const twice = 2n * (scaled % by);
  if (twice > by || (twice === by && quotient % 2n === 1n)) quotient += 1n;
  const text = quotient.toString().padStart(digits + 1, '0');
  const shown = digits === 0 ? text : `${text.slice(0, -digits)}.${text.slice(-digits)}`;
  return quotient === 0n ? shown : sign + shown;
}
