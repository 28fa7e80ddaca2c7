// The partitions of a stream: how far each sink has come in the log.
import type { PartitionReport, SinkReport, StreamReport } from '../../api/types.ts';
import type { Format } from '../../i18n/format.ts';
import { useShared } from '../../ui/context.ts';

export function Partitions({ report, format }: { readonly report: StreamReport; readonly format: Format }) {
  const { texts } = useShared();
  const words = texts.pipeline;
  return (
    <div class="table" role="region" aria-label={`${words.partitions}: ${report.stream}`} tabIndex={0}>
      <table class="partitions">
        <thead>
          <tr>
            <th scope="col">{words.partition}</th>
            <th scope="col" class="is-number">
              {words.logEnd}
            </th>
            <th scope="col">{words.mongo}</th>
            <th scope="col">{words.lake}</th>
            <th scope="col" class="is-number">
              {words.lagRecords}
            </th>
            <th scope="col" class="is-number">
              {words.lagSeconds}
            </th>
          </tr>
        </thead>
        <tbody>
          {report.partitions.map((partition) => (
            <tr key={partition.partition}>
              <th scope="row">{partition.partition}</th>
              <td class="is-number">{known(partition.log_end, format)}</td>
              <td>
                <Progress sink={partition.mongo} partition={partition} format={format} />
              </td>
              <td>
                <Progress sink={partition.lake} partition={partition} format={format} />
              </td>
              <td class="is-number">{known(partition.lag_records, format)}</td>
              <td class="is-number">{partition.lag_seconds === null ? '—' : format.number(partition.lag_seconds)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface ProgressProperties {
  readonly sink: SinkReport | null;
  readonly partition: PartitionReport;
  readonly format: Format;
}

/** The part of what the log still has that the sink holds. */
function Progress({ sink, partition, format }: ProgressProperties) {
  const { texts } = useShared();
  if (sink === null) return <span class="hint">{texts.pipeline.off}</span>;
  const { log_start: start, log_end: end } = partition;
  const share = sink.next === null || start === null || end === null ? null : end > start ? (sink.next - start) / (end - start) : 1;
  const width = `${100 * Math.min(1, Math.max(0, share ?? 0))}%`;
  return (
    <span class="progress">
      <span class="progress-track" aria-hidden="true">
        <span class={sink.lag_records === 0 ? 'progress-fill is-done' : 'progress-fill'} style={{ width }} />
      </span>
      <span class="progress-text">{known(sink.next, format)}</span>
    </span>
  );
}

function known(value: number | null, format: Format): string {
  return value === null ? '—' : format.integer(value);
}
