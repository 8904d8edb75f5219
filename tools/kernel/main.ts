import { describeFault, Fault } from '#core/fault/fault.ts'
import { runInGuest } from './guest.ts'
import { guestImage } from './image.ts'
import { KERNELS, type Kernel } from './kernels.ts'
import { installPrograms } from './packages.ts'
import { recordVectors } from './record.ts'
import { bundleTests } from './tests.ts'

// make test-kernel [KERNELS=6.12,6.1]: boots each kernel in an emulated machine and runs test/kernel there. A guest that
// dies is a failure. `node tools/kernel/main.ts record` makes the vectors of core/netlink's tests anew.
const root = new URL('../..', import.meta.url).pathname.replace(/\/$/, '')
/** Most of it is the guest's: ten times what the same takes outside, and more on a busy machine. */
const SECONDS = 1200

const [mode = ''] = process.argv.slice(2)
try {
  await installPrograms()
  const [newest] = KERNELS
  if (mode === 'record' && newest !== undefined) await recordVectors(await guestImage(newest), `${root}/test/vectors`)
  else await testAll(mode === '' ? KERNELS : chosen(mode.split(',')))
} catch (error) {
  console.error(`test-kernel failed: ${describeFault(error)}`)
  process.exitCode = 1
}

function chosen(names: readonly string[]): readonly Kernel[] {
  return names.map((name) => {
    const kernel = KERNELS.find((one) => one.name === name)
    if (kernel !== undefined) return kernel
    const known = KERNELS.map((one) => one.name).join(', ')
    throw new Fault('kernel.unknown', `no kernel is called ${name}; there are: ${known}`)
  })
}

async function testAll(kernels: readonly Kernel[]): Promise<void> {
  const bundle = await bundleTests(root)
  for (const kernel of kernels) {
    const image = await guestImage(kernel)
    console.log(`\n== Linux ${image.version}`)
    const started = performance.now()
    const command = `cd '${root}' && node_modules/.bin/node --enable-source-maps --test-reporter=spec '${bundle}'`
    const { status, stdout, stderr, bootSeconds } = await runInGuest(image, command, { seconds: SECONDS })
    process.stdout.write(stdout)
    process.stderr.write(stderr)
    const passed = Number(/^ℹ pass (\d+)$/m.exec(stdout)?.[1] ?? 0)
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    const ok = status === 0 && passed > 0
    console.log(
      `Linux ${image.version}: ${ok ? 'passed' : `FAILED (status ${status})`}, ${passed} tests, ${seconds} s, booted in ${bootSeconds} s`,
    )
    if (!ok) process.exitCode = 1
  }
}
