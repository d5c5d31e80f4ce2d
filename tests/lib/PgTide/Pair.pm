# PgTide::Pair
#		Two whole regions, us and eu: servers, brokers, relays, and the link between.
#
# Owns: putting the parts together the way most tests and the demo want them.
# Does not own: what is configured in the databases; tutorial() runs the
# tutorial's SQL, anything else is the test's.
package PgTide::Pair;

use strict;
use warnings;

use PgTide::Nats;
use PgTide::Region;
use PgTide::Relay;
use PgTide::Wan;

our %REGION = (us => 'us-east', eu => 'eu-west');

# form: leaf (default), hub or none (no NATS); create: the extension, too (default 1); preload;
# netns: put the PostgreSQL servers behind the WAN, too (default 0: the relays reach them by
# Unix sockets, and nothing else needs to).  conf: more of postgresql.conf.
sub new
{
	my ($class, %args) = @_;
	my $self = bless {%args, wan => PgTide::Wan->new}, $class;
	my $form = $args{form} // 'leaf';
	$self->{nats} = $form eq 'none' ? {} : PgTide::Nats->$form($self->{wan});
	for my $side (qw(us eu))
	{
		$self->{region}{$side} = PgTide::Region->make(
			$side,
			region  => ($args{create} // 1) ? $REGION{$side} : undef,
			create  => $args{create},
			preload => $args{preload},
			conf    => $args{conf},
			netns   => $args{netns} ? $self->{wan}->netns($side) : undef);
	}
	if (%{ $self->{nats} } && !PgTide::Nats->wait_joined($self->{nats}))
	{
		die "the two regions' NATS servers did not find each other\n";
	}
	return $self;
}

sub wan { return $_[0]{wan}; }
sub us { return $_[0]{region}{us}; }
sub eu { return $_[0]{region}{eu}; }
sub nats { return $_[0]{nats}{ $_[1] }; }
sub relay { return $_[0]{relay}{ $_[1] }; }

# The tutorial's steps 1 and 2, as printed there, plus the role the relays log in with.
sub tutorial
{
	my ($self) = @_;
	for my $side (qw(us eu))
	{
		my $node = $self->{region}{$side};
		$node->run_file("$ENV{TIDE_TOP}/demo/orders.sql");
		$node->run_file("$ENV{TIDE_TOP}/demo/tutorial-$side.sql");
		$node->make_relay_role;
	}
	return;
}

# One relay a region, next to its broker.
sub start_relays
{
	my ($self, @args) = @_;
	$self->start_relay($_, @args) for qw(us eu);
	return;
}

# Starts (or starts again) a region's relay; wait => 0: without waiting until it is ready.
sub start_relay
{
	my ($self, $side, %args) = @_;
	$self->{relay}{$side} //= $self->new_relay($side, $side, %args);
	return $self->{relay}{$side}->start(%args);
}

# Another relay for a side, not started: a hot spare.
sub new_relay
{
	my ($self, $side, $name, %args) = @_;
	return PgTide::Relay->new(
		%args,
		name   => $name,
		region => $self->{region}{$side},
		netns  => $self->{wan}->netns($side));
}

# Stops relays, brokers and the link; the databases end with the test.
sub stop
{
	my ($self) = @_;
	my %status = map { $_ => $self->{relay}{$_}->stop } keys %{ $self->{relay} // {} };
	$_->stop for values %{ $self->{nats} };
	return \%status;
}

1;
