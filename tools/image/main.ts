import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { openProgress } from '#apps/lab/progress/progress.ts'
import { makeImages } from './images.ts'
import { writeArchive, writeLayout } from './oci.ts'

// make image: the product's image and the others as OCI archives in build/images, to be pushed elsewhere
// (for instance: skopeo copy oci-archive:build/images/pellicle-0.1.0.tar docker://…).
const root = new URL('../..', import.meta.url).pathname.replace(/\/$/, '')
const progress = openProgress(process.stderr, process.stderr.isTTY, () => performance.now())
const images = await progress.step('Images', async (voice) => {
  return await makeImages(root, (text) => voice.detail(text))
})
const folder = join(root, 'build/images')
mkdirSync(folder, { recursive: true })
for (const image of images) {
  const archive = join(folder, `${image.name.replace('localhost/', '').replace(':', '-')}.tar`)
  await progress.step(archive, async () => {
    const layout = join(folder, 'layout')
    writeLayout([image], layout)
    await writeArchive(layout, archive)
    rmSync(layout, { recursive: true })
  })
}
