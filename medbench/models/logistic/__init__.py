"""L2-penalised logistic regression for all penalties and folds of a labelled subset together, in batched matrix products.

A member is one penalty on one set of training images (a fold's, or the whole subset). Its objective, with features standardised by the
mean and standard deviation of its own n images, is

    mean over images of the cross-entropy  +  penalty / 2 * ||W||_F^2,        bias not penalised,

softmax over the classes (multiclass, ordinal), or one logistic loss a label (multi-label; binary is one label, which equals a softmax of
two classes at twice the penalty). scikit-learn's LogisticRegression has the same minimiser at C = 1 / (n * penalty).

How. Standardised features are rotated into the eigenbasis of their Gram matrix: the penalty does not change, and n < D images live in n
dimensions. Take the Hessian of the loss as (mean covariance of the class probabilities) x (Gram matrix), a Kronecker product: in both
eigenbases it is diagonal, for every penalty at once. (Boehning's bound, Ann. Inst. Statist. Math. 44, 1992, has the same form with the
first factor (I - 11'/C) / 2; it knows nothing of rare classes and took 1.6 to 2.1 times as many evaluations on HAM10000.) It preconditions a
batched L-BFGS (compact form: Byrd, Nocedal and Schnabel, Math. Programming 63, 1994, section 3), and after some iterations gives way to the
diagonal of the Hessian at the point reached: half as many evaluations on 700 images, a seventh fewer on 7,000. Parts of like size are one
batch; members that have converged leave it. So the bits of a part depend on what
is solved beside it, and a protocol solves each draw alone. Every part starts from zero: to start folds from the whole subset's
solutions took fewer evaluations of the folds, but with those of the whole subset as much time.

When it stops. Euclidean norm of the gradient of the mean objective <= tolerance (scikit-learn's lbfgs bounds the largest entry: weaker).
Where the bias is optimal, the duality gap is exactly ||gradient in W||^2 / (2 * penalty): the objective lies no further above its minimum.
Cross-validation runs in float32, the final fit in float64.
"""

from medbench.models.logistic.classifier import Model, Pool, base_rate, encode
from medbench.models.logistic.fitting import ClassTargets, Fits, eigenbasis, fit, held_out_loss, held_out_probabilities

__all__ = ["ClassTargets", "Fits", "Model", "Pool", "base_rate", "eigenbasis", "encode", "fit", "held_out_loss", "held_out_probabilities"]
