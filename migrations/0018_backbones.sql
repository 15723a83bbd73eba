-- Jobs ask what a model computes with, and no longer for its family by name: that is the trainer's affair.
update models set facts = facts || jsonb_build_object(
    'backbone',
    case
        when family in ('vit', 'deit') then 'vision_transformer'
        when family = 'resnet' then 'convolutional'
        else 'text_encoder'
    end
);
