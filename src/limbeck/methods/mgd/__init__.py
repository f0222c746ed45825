"""Matching Guided Distillation.

Yue, Deng, Zhou: Matching Guided Distillation. ECCV 2020, arXiv:2008.09958, as published in
kaiyuyue/mgd. (Masked Generative Distillation, also called MGD, is another method:
:class:`limbeck.methods.MaskedGenerative`.)

At each place the student has S channels and the teacher T >= S of the same height and width. No
adapter is learned; training alternates between two problems ("coordinate descent").

**Matching.** Over many images, with every channel of an image scaled to length 1,

    D[s, t] = mean over images of (2 - 2 <student_s, teacher_t>)

and an assignment of least cost gives every student channel k = T // S teacher channels: its
``flow``. The T mod S teacher channels left over guide nobody.

**Reduction.** One map is made of the k teacher channels of a student channel. Of the values at an
image and position

    amp      absolute max pooling: the value of the largest magnitude, with its sign
    sp       the largest            sp_mean  their mean
    rd       random drop: any of them, drawn anew every time
    sm       sparse matching: k = 1, whatever T is

The channels' margins are reduced too: ``amp`` and ``sp_mean`` take their mean, ``sp`` the largest.

**Distance.** A margin m is what a channel with norm gain gamma and shift beta has for its mean
negative value, E[X | X < 0] with X ~ N(beta, gamma^2). With the reduced teacher's t' = max(t, m)
and the student's s behind a norm of its own (trained with it, not part of it),

    L = sum of (s - t')^2 over all elements where s > t' or t' > 0

divided by the images of the global batch and by ``factor``, times the place's weight. Published:

    classification  stage_weights 1/8, 1/4, 1/2, 1 at C2.pre to C5.pre, factor 1e4
    detection       stage_weights 1, 1, 10, 10 at C2.pre to C5.pre, factor 4e8 (5e7 in the published
                    code, which divides by its 8 processes once more), norm "group",
                    every_steps 5000, slow_from 20000, slow_every 31000, transform "training"

A place that is left out leaves the others' weights as they are.
"""

from limbeck.methods.mgd.method import MGD

__all__ = ["MGD"]
