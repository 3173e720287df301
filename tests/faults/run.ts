// `npm run test:faults`: all faults, on a system of their own. Words after `--` select faults by name. Exits with 1 on any
// violation.
import { faultsOn, runSuite } from './run-suite.ts'

const wanted = process.argv.slice(2)
const isWanted = ({ name }: { name: string }) =>
  wanted.length === 0 || wanted.some(word => name.includes(word))

if (!faultsOn('disk').some(isWanted)) {
  console.log(`No fault has a name with ${wanted.join(' or ')} in it; there are:`)
  for (const { name } of faultsOn('disk')) console.log(`    ${name}`)
  process.exit(2)
}
await runSuite(faults => faults.filter(isWanted))
