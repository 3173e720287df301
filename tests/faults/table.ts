import type { FaultReport } from './run-fault.ts'

const COLUMNS = [
  'fault',
  'times',
  'requests',
  'done',
  'refused',
  'key reused',
  '202',
  '503',
  '500',
  'lost',
  'longest outage',
  'served again',
  'all ready',
  'violations',
]

const seconds = (value: number) => `${value.toFixed(1)} s`

const rowOf = ({ fault, times, requests, answers, violations, ...took }: FaultReport) => [
  fault,
  times,
  requests,
  answers.completed,
  answers.refused,
  answers.reused,
  answers.pending,
  answers.unavailable,
  answers.error,
  answers.lost,
  seconds(took.longestOutage),
  seconds(took.recovered),
  seconds(took.healthy),
  violations.length,
]

/** Requests of each kind over all faults. */
export const sumOfKinds = (reports: FaultReport[]): FaultReport['kinds'] => {
  const sums: FaultReport['kinds'] = new Map()
  for (const [kind, { done, refused }] of reports.flatMap(({ kinds }) => [...kinds])) {
    const sum = sums.get(kind) ?? { done: 0, refused: 0 }
    sums.set(kind, { done: sum.done + done, refused: sum.refused + refused })
  }
  return sums
}

const sumOf = (reports: FaultReport[]): FaultReport => {
  const answers = { completed: 0, refused: 0, reused: 0, pending: 0, unavailable: 0, error: 0, lost: 0 }
  for (const report of reports)
    for (const kind of Object.keys(answers) as Array<keyof typeof answers>)
      answers[kind] += report.answers[kind]
  const sum = (value: (report: FaultReport) => number) =>
    reports.reduce((total, report) => total + value(report), 0)
  return {
    fault: 'all',
    times: sum(report => report.times),
    requests: sum(report => report.requests),
    answers,
    kinds: sumOfKinds(reports),
    longestOutage: Math.max(...reports.map(report => report.longestOutage)),
    recovered: Math.max(...reports.map(report => report.recovered)),
    healthy: Math.max(...reports.map(report => report.healthy)),
    stuck: reports.some(report => report.stuck),
    seconds: sum(report => report.seconds),
    steps: [],
    violations: reports.flatMap(report => report.violations),
  }
}

/** The counts of completed and refused requests of each kind. */
const kindsIn = (reports: FaultReport[]): string =>
  [...sumOfKinds(reports)]
    .toSorted(([, a], [, b]) => b.done - a.done)
    .map(([kind, { done, refused }]) => `${kind} ${done} (${refused} refused)`)
    .join(', ')

/** The results as a table with one line per fault, and the kinds of requests over all faults. */
export const tableOf = (reports: FaultReport[]): string => {
  const rows = [COLUMNS, ...reports.map(rowOf), rowOf(sumOf(reports))].map(row => row.map(String))
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  const lines = rows
    .map(row =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
        .join('  '),
    )
    .join('\n')
  return `${lines}\n${kindsIn(reports)}`
}
