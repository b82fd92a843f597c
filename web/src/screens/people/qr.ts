// Reading QR codes: the browser's own reader where it has one, else a small library.
import decode from 'qr/decode.js';

interface Detector {
  detect(source: CanvasImageSource): Promise<{ rawValue: string }[]>;
}

declare global {
  var BarcodeDetector: (new (options: { formats: string[] }) => Detector) | undefined;
}

/** Pictures are made smaller first: a code fills a good part of them. */
const SIDE_MOST = 1_200;

const detector = globalThis.BarcodeDetector && new globalThis.BarcodeDetector({ formats: ['qr_code'] });

/** The text of a QR code in a picture file. */
export async function readPicture(file: File): Promise<string | undefined> {
  const picture = await createImageBitmap(file);
  try {
    return await readQr(picture, picture.width, picture.height);
  } finally {
    picture.close();
  }
}

/** The text of a QR code in a picture or a frame of the camera. */
export async function readQr(
  source: ImageBitmap | HTMLVideoElement,
  width: number,
  height: number,
): Promise<string | undefined> {
  if (width === 0 || height === 0) return undefined;
  const found = await detector?.detect(source).catch(() => []);
  const [first] = found ?? [];
  return first?.rawValue ?? fromPixels(source, width, height);
}

function fromPixels(source: CanvasImageSource, width: number, height: number): string | undefined {
  const scale = Math.min(1, SIDE_MOST / Math.max(width, height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (context === null) return undefined;
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  try {
    return decode(context.getImageData(0, 0, canvas.width, canvas.height));
  } catch {
    // No code in it that can be read.
    return undefined;
  }
}
