// The text of tooltips, which ECharts takes as HTML: everything is escaped here, for names come from records.

export function escape(text: string): string {
  const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? '');
}

/** A title, and lines of a name and a value. */
export function tooltip(title: string, lines: readonly (readonly [name: string, value: string])[]): string {
  const rows = lines.map(([name, value]) => `<div class="tip-row"><span>${escape(name)}</span><b>${escape(value)}</b></div>`);
  return `<div class="tip-title">${escape(title)}</div>${rows.join('')}`;
}

/** The index of the item that a tooltip is for, whatever ECharts hands over. */
export function indexOf(parameters: unknown): number {
  const first: unknown = Array.isArray(parameters) ? parameters[0] : parameters;
  const index = (first as { dataIndex?: unknown } | undefined)?.dataIndex;
  return typeof index === 'number' ? index : -1;
}
