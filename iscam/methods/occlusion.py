r"""Maps from images that are partly hidden: RISE and the meaningful perturbation, Mask.

In all docstrings, X is the image (channels, height, width), and C(.) is the probability of the explained class. Both
methods return a map that is scaled to [0, 1] with its minimum and maximum. No ReLU is applied.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from iscam.capture import call_model, checked_finite, checked_gradient, eval_mode, grad_enabled, model_errors
from iscam.engine.scoring import masked_scores
from iscam.maps import is_constant, unit_map, upsample
from iscam.methods.options import MaskOptions, RiseOptions
from iscam.record import ForwardRecord
from iscam.rng import generator

#: Number of masks of RISE that are summed at once. It bounds the memory.
MASKS_AT_ONCE = 64

#: The settings of Mask for an image of 224 pixels: the cells per side of the mask, the standard deviations of the
#: Gaussians that smooth the mask and blur the image, and the largest shift of the image, in pixels.
SIDE, CELLS, SMOOTHING, BLUR, JITTER = 224, 28, 5.0, 10.0, 2

#: Learning rate of Mask's optimiser, Adam.
LEARNING_RATE = 0.1

#: Exponent β of Mask's smoothness penalty.
BETA = 3

#: Radii of the discs, in pixels of an image of 224 pixels, among which Mask's first mask is chosen.
RADII = range(0, 175, 5)

#: Mask starts with the smallest disc that reduces the probability to this share of the full image's.
HIDDEN = 0.01


def rise(record: ForwardRecord, options: RiseOptions) -> Tensor:
    r"""Return the map of RISE,  L = s(S)  with  S = 1/(N p) Σ_n C(X ∘ M_n) M_n.

    `masks` is N, and `keep` is p. The mask M_n starts as a grid of s x s `cells`, each 1 with probability p and else 0.
    A cell has c pixels, the side of the image over s, rounded up. The grid is upsampled bilinearly to (s + 1) c pixels
    per side and cut to the size of the image at a random shift of 0 to c - 1 pixels in each direction. Grid and shift
    depend only on (`seed`, n), so all images and devices share the masks. Masks are made batch by batch, twice, and are
    never stored together.

    S is the expected score over the masks that show a pixel, estimated from N masks. If the score is the same for all
    masks, its exact value is returned. For scores that hardly vary, the map shows which pixels the N masks happen to
    show; use more masks.

    Returns a map (height, width) in [0, 1].

    Source: Petsiuk et al. 2018, arXiv 1806.07421. N = 4,000 (VGG-16), s = 7 and p = 0.5 are the paper's values. Its
    authors' notebooks use s = 8, N = 6,000 with p = 0.1, or N = 2,000 with p = 0.5. Their upsampling reflects the grid
    at the border, and this one extends it, so the outer half cell differs.
    """
    return unit_map(expected_scores(record, options))


def expected_scores(record: ForwardRecord, options: RiseOptions) -> Tensor:
    """Compute S of RISE, (height, width) float32."""
    image, size = record.image, record.image.shape[1:]

    def masks(numbers: range) -> Tensor:
        return rise_masks(numbers, size, options, image.device)

    def masked_images(passes: range) -> tuple[Tensor]:
        return (image * masks(passes).to(image)[:, None],)

    scores = masked_scores(record.net, masked_images, options.masks, record.target, options)
    if is_constant(scores):
        return scores.mean().expand(size)
    total = torch.zeros(size, dtype=torch.float32, device=image.device)
    for start in range(0, options.masks, MASKS_AT_ONCE):
        numbers = range(start, min(start + MASKS_AT_ONCE, options.masks))
        total += torch.einsum("n,nhw->hw", scores[numbers.start : numbers.stop], masks(numbers))
    return total / (options.masks * options.keep)


def rise_masks(numbers: range, size: torch.Size, options: RiseOptions, device: torch.device | str) -> Tensor:
    """Return the masks M_n with these numbers, (masks, height, width) float32 in [0, 1]."""
    draws = [grid_and_shift(options, number, size) for number in numbers]
    grids = torch.stack([grid for grid, _ in draws]).to(device)
    shifts = torch.stack([shift for _, shift in draws], 1).to(device)
    rows, columns = (upsampling(shift, side, options.cells) for shift, side in zip(shifts, size, strict=True))
    return rows @ grids @ columns.mT


def upsampling(shifts: Tensor, side: int, cells: int) -> Tensor:
    """Return the matrices (masks, side, cells) that upsample one axis of each grid and cut it at its shift."""
    one_hot = torch.eye(cells, dtype=torch.float32, device=shifts.device)
    matrix = upsample(one_hot[None], ((cells + 1) * cell_size(side, cells), cells))[0]
    return matrix[shifts[:, None] + torch.arange(side, device=shifts.device)]


def cell_size(side: int, cells: int) -> int:
    """Return the number of pixels of a cell along an axis of the image with this number of pixels."""
    return math.ceil(side / cells)


def grid_and_shift(options: RiseOptions, number: int, size: torch.Size) -> tuple[Tensor, Tensor]:
    """Draw the grid (cells, cells) of zeros and ones of one mask, and its shift (2,) in pixels, below a cell's size.

    The numbers are drawn on the CPU, so they are the same for all devices.
    """
    random = generator(options.seed, number)
    grid = torch.rand(options.cells, options.cells, generator=random, dtype=torch.float32, device="cpu") < options.keep
    shift = [
        torch.randint(cell_size(side, options.cells), (1,), generator=random, dtype=torch.int64, device="cpu")
        for side in size
    ]
    return grid.float(), torch.cat(shift)


def mask(record: ForwardRecord, options: MaskOptions) -> Tensor:
    r"""Return the map of Mask, the meaningful perturbation,  L = s(1 - m̂),  with the mask m that minimises

    λ₁ Σ_u abs(1 - m_u) + λ₂ Σ_u ‖∇m_u‖³ + E_τ[C(m̂ ∘ X_τ + (1 - m̂) ∘ B_τ)].

    The mask m has 28 x 28 cells in [0, 1]. m̂ is m at the size of the image: each cell is repeated, and a Gaussian of
    σ = 5 pixels smooths the result. B is the image, blurred with a Gaussian of σ = 10 pixels, so m = 1 keeps a pixel
    and m = 0 blurs it. `l1` is λ₁, and `tv` is λ₂. ∇m_u holds the differences to the next cell in both directions. X_τ
    and B_τ are shifted by up to 2 pixels per direction, and each iteration draws one shift τ, which depends only on
    (`seed`, iteration). Adam with a learning rate of 0.1 takes `iterations` steps, and m is cut to [0, 1] after each.
    All sizes in pixels hold for a short side of 224 pixels and are scaled for other images.

    m starts as a disc of zeros in the centre of the image, the smallest whose probability is below 1 % of that of the
    full image, or the largest disc, which covers the image. The start favours objects in the centre.

    Returns a map (height, width) in [0, 1]. Raises `InputError` if the probability does not depend on the image through
    differentiable operations.

    Source: Fong & Vedaldi 2017, arXiv 1704.03296. The settings are those of the authors' Caffe code, whose gradient
    passes by the Gaussian that smooths the mask, which is differentiated here. The PyTorch port by J. Gildenblat starts
    with ones, takes means in place of the sums (a penalty of cells that is 8 times as weak, and 39 times for
    smoothness), and adds noise to the image.
    """
    with grad_enabled(), torch.device(record.image.device), eval_mode(record.net.model):
        game = Deletion(record, options)
        m = game.start().requires_grad_()
        adam = torch.optim.Adam([m], lr=LEARNING_RATE)
        for iteration in tqdm(range(options.iterations), desc="iterations", leave=False, delay=5, disable=None):
            loss = game.penalty(m) + game.probability(m, game.shift(iteration))
            (m.grad,) = torch.autograd.grad(loss, m)
            adam.step()
            m.data.clamp_(0, 1)
    return unit_map(game.at_image_size(1 - m.detach()))  # equals 1 - m̂, and is exactly 0 for m = 1


class Deletion:
    """The minimisation of Mask for one image: its objective, its first mask and its random shifts."""

    def __init__(self, record: ForwardRecord, options: MaskOptions) -> None:
        self.record, self.options = record, options
        self.image = record.image.detach().float()
        height, width = self.image.shape[1:]
        self.scale = min(height, width) / SIDE
        self.blurred = gaussian(height, BLUR * self.scale, like=self.image) @ self.image
        self.blurred = self.blurred @ gaussian(width, BLUR * self.scale, like=self.image).T
        self.rows = gaussian(height, SMOOTHING * self.scale, like=self.image) @ repeated(height, like=self.image)
        self.columns = gaussian(width, SMOOTHING * self.scale, like=self.image) @ repeated(width, like=self.image)

    def at_image_size(self, m: Tensor) -> Tensor:
        """Compute m̂ (..., height, width) of masks (..., h, w)."""
        return self.rows @ m @ self.columns.T

    def perturbed(self, m: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """Compute  m̂ ∘ X_τ + (1 - m̂) ∘ B_τ,  (n, channels, height, width), of masks (n, h, w)."""
        kept = self.at_image_size(m)[:, None]
        mixed = kept * shifted(self.image, shift) + (1 - kept) * shifted(self.blurred, shift)
        return mixed.to(self.record.image.dtype)

    def probability(self, m: Tensor, shift: tuple[int, int]) -> Tensor:
        """Compute the probability C of the perturbed image of one mask (h, w)."""
        net, images = self.record.net, self.perturbed(m[None], shift)
        with model_errors(images):
            logits = checked_finite(net.read_output(call_model(net.model, images), 1))
        if m.requires_grad:
            checked_gradient(logits, m)
        return net.scores_to_probabilities(logits.float())[0, self.record.target]

    def penalty(self, m: Tensor) -> Tensor:
        """Compute  λ₁ Σ abs(1 - m) + λ₂ Σ ‖∇m‖³  of one mask (h, w)."""
        down, right = F.pad(m.diff(dim=0), (0, 0, 0, 1)), F.pad(m.diff(dim=1), (0, 1))
        roughness = (down**2 + right**2) ** (BETA / 2)
        return self.options.l1 * (1 - m).abs().sum() + self.options.tv * roughness.sum()

    def shift(self, iteration: int) -> tuple[int, int]:
        """Draw the shift τ of one iteration, in pixels down and to the right."""
        most = round(JITTER * self.scale)
        random = generator(self.options.seed, iteration)
        down, right = torch.randint(-most, most + 1, (2,), generator=random, device="cpu").tolist()
        return down, right

    def start(self) -> Tensor:
        """Return the first mask (h, w): zeros inside the smallest disc that hides the class, and ones outside."""
        y, x = (cell_centres(side, like=self.image) / self.scale for side in self.image.shape[1:])
        distance = (y[:, None] ** 2 + x**2).sqrt()
        discs = torch.stack([(distance >= radius).float() for radius in RADII])

        def images(passes: range) -> tuple[Tensor]:
            return (self.perturbed(discs[passes.start : passes.stop]),)

        scores = masked_scores(self.record.net, images, len(discs), self.record.target)
        hides = (scores <= HIDDEN * scores[0]).nonzero()  # the first disc is empty
        return discs[int(hides[0]) if len(hides) else -1]


def cell_centres(pixels: int, like: Tensor) -> Tensor:
    """Return the distances of the mask's cells from the centre of an axis, in pixels."""
    cells = min(CELLS, pixels)
    return ((torch.arange(cells, device=like.device, dtype=like.dtype) + 0.5) / cells - 0.5) * pixels


def repeated(pixels: int, like: Tensor) -> Tensor:
    """Return the matrix (pixels, cells) that repeats the cells of the mask along one axis of the image."""
    cells = min(CELLS, pixels)
    cell_of_pixel = torch.arange(pixels, device=like.device) * cells // pixels
    return F.one_hot(cell_of_pixel, cells).to(like)


def gaussian(pixels: int, sigma: float, like: Tensor) -> Tensor:
    """Return the matrix (pixels, pixels) that smooths one axis with a Gaussian. Each of its rows sums to 1."""
    place = torch.arange(pixels, device=like.device, dtype=like.dtype)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdim=True)


def shifted(image: Tensor, shift: tuple[int, int]) -> Tensor:
    """Shift an image (channels, height, width) down and to the right. Its border fills the gap."""
    (down, right), (height, width) = shift, image.shape[1:]
    rows = (torch.arange(height, device=image.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) - right).clamp(0, width - 1)
    return image[:, rows][:, :, columns]
