// What the short scripts for Node share: steps that are run in order, and counted.
export const SESSION = (process.env.POOL_MODE ?? 'session') === 'session'
// A tenant that the login may switch to; undefined where the target is no gateway.
export const OTHER_TENANT = process.env.OTHER_TENANT

const skipped = (process.env.SKIP_STEPS ?? '').split(' ')
const steps = []

// Adds a step. `when`: whether the target can be asked for it.
export const step = (name, action, when = true) => {
  if (when && !skipped.includes(name)) steps.push([name, action])
}

export const run = async (driver) => {
  let failed = 0
  for (const [name, action] of steps) {
    try {
      // What hangs is to be named.
      const late = new Promise((_, reject) => setTimeout(() => reject(new Error('no end within 60 s')), 60_000).unref())
      await Promise.race([action(), late])
    } catch (error) {
      failed++
      console.log(`FAILED: ${name}`)
      console.log(error)
    }
  }
  console.log(`${driver}: ${steps.length - failed} steps passed, ${failed} failed`)
  process.exit(failed > 0 ? 1 : 0)
}
