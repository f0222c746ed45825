"""HEAD: hetero-assists distillation.

Wang, Li, Liao, Jiang, Wu, Wang, Qian, Liu: HEAD: HEtero-Assists Distillation for Heterogeneous
Object Detectors. ECCV 2022, arXiv:2207.05345, as published in LutingWang/HEAD.

A dense student and a two-stage teacher have little in common that could be compared. In between
stands an **assist** (:mod:`.assist`): a box head of the teacher's kind on the student's feature
pyramid, which is trained beside the student and leaves after training. With the regions R of a
batch (:mod:`.regions`), which are the student's own proposals (:mod:`.proposals`) and the ground
truth, the student's loss gets

    L_assist  cross-entropy over all regions, L1 of the positive ones' boxes, both divided by |R|
    L_AKD     mean over R of (A_i s_i - t_i)^2, for both hidden layers i (:mod:`.akd`)
    L_CKD     mean over the proposals in R of (A f - t_2)^2 (:mod:`.ckd`)

where s_i are the assist's hidden layers and t_i the teacher's for the same regions, all behind
their ReLU; f is the classification tower's vector in the cell whose anchor proposed the region; A
are linear adapters with a bias. A teacher's region features come from its own pyramid.

    published as        here                                               COCO AP, R18
    configs/assist      HEAD(akd=None, ckd=None), no teacher               33.4
    configs/head_dag    HEAD(ckd=None)                                     35.7
    configs/head        HEAD()                                             36.1
    the paper           HEAD(adapter="per_anchor", ckd=EarlyStop(2.0,      36.2, presumably
                        58640), assist=WarmUp(1.0, 2000))
    the paper, TF-HEAD  TFHEAD(), or with fcos, or with that alone         33.9, of one of these

The weights of AKD and CKD are 2.0 from optimizer step 2000 on, and rise to that from 0; steps are
those of 16 images. The weights of the assist's losses are 1, and rise to that from 0 in the
paper's form. All means are over what one process has.

So it is for a dense student (:mod:`.dense_student`). A two-stage student of a dense teacher gets a
dense assist (:mod:`.mirror`); without a teacher the assist itself teaches (:mod:`.teacher_free`).
"""

from limbeck.methods.head.method import HEAD
from limbeck.methods.head.teacher_free import TFHEAD

__all__ = ["HEAD", "TFHEAD"]
